"""Read the answer out of what a model wrote: numbers, options, plain text. None where there is no answer.

Nothing here guesses: "1,234" is one number, a text without an answer has none, and two missing answers never match.
Free of torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([^{}]+?)\s*\}\s*\{\s*([^{}]+?)\s*\}")
_DECORATION = re.compile(r"\\(?:text|mathrm|left|right|,|!|;|\s)|\\?\$|€|£|\*\*|\\\(|\\\)")
_NUMBER = re.compile(
    r"(?P<sign>[-+])?\s*(?P<whole>\d[\d,]*\d|\d)?(?P<decimals>\.\d+)?(?:\s*/\s*(?P<below>\d[\d,]*\d|\d))?"
    r"(?P<exponent>[eE][-+]?\d+)?"
)
_MIXED = re.compile(r"(?P<sign>[-+])?\s*(?P<whole>\d+)\s+(?P<above>\d+)\s*/\s*(?P<below>\d+)")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+|\d+")
_MARKERS = re.compile(r"####|\banswer\s+is\s*:?|\banswer\s*[:=]", re.IGNORECASE)


def read_number(text: str) -> str | None:
    """The number that ``text`` begins with, in lowest terms ("1234", "-3", "3/4"); None where it begins with none.

    Currency signs, thousands separators, a trailing unit or full stop, percent signs, LaTeX and mixed fractions
    ("1 1/2") are understood. A number that cannot be read without guessing ("1,23", "5/0") is None.
    """
    cleaned = _LATEX_FRACTION.sub(r" \1/\2", text.replace("\u2212", "-").replace("\u2013", "-"))
    cleaned = _DECORATION.sub("", cleaned).strip().lstrip("=:≈ ")
    mixed = _MIXED.match(cleaned)
    if mixed:
        if int(mixed["below"]) == 0:
            return None
        size = int(mixed["whole"]) + Fraction(int(mixed["above"]), int(mixed["below"]))
        return str(-size if mixed["sign"] == "-" else size)
    found = _NUMBER.match(cleaned)
    if not found or not (found["whole"] or found["decimals"]):
        return None
    parts = [part for part in (found["whole"], found["below"]) if part]
    if not all(_THOUSANDS.fullmatch(part) for part in parts):
        return None
    whole = (found["whole"] or "0").replace(",", "")
    value = Fraction(whole + (found["decimals"] or "") + (found["exponent"] or ""))
    if found["below"]:
        below = int(found["below"].replace(",", ""))
        if below == 0:
            return None
        value /= below
    return str(-value if found["sign"] == "-" else value)


def _boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return None


def final_number(text: str) -> str | None:
    """The number that a worked solution declares as its answer, in lowest terms; None where it declares none.

    The last "The answer is ...", "#### ...", "Answer: ..." or ``\\boxed{...}`` counts; a text that is nothing but a
    number is its own answer. A number met on the way is not an answer.
    """
    markers = list(_MARKERS.finditer(text))
    if markers:
        tail = text[markers[-1].end() :].lstrip()
        boxed = _boxed(tail)
        return read_number(tail if boxed is None else boxed)
    boxed = _boxed(text)
    if boxed is not None:
        return read_number(boxed)
    bare = text.strip().rstrip(".")
    return read_number(bare) if re.fullmatch(r"[-+\u2212$€£]*[\d.,/ ]+%?", bare) else None


def read_option(text: str, options: Sequence[str]) -> str | None:
    """The one of ``options`` that ``text`` gives as its answer; None where it names none, or several.

    Compared without case and surrounding punctuation: first the whole text, then what follows its last
    "answer is", then options named as whole words.
    """
    folded = {_plain(option): option for option in options}
    markers = list(_MARKERS.finditer(text))
    tail = text[markers[-1].end() :] if markers else text
    for candidate in (tail, tail.strip().split("\n", 1)[0]):
        if _plain(candidate) in folded:
            return folded[_plain(candidate)]
    named = {
        option
        for key, option in folded.items()
        if re.search(rf"(?<!\w){re.escape(key)}(?!\w)", _plain(tail.split("\n", 1)[0] if tail.strip() else tail))
    }
    return named.pop() if len(named) == 1 else None


def read_text(text: str) -> str | None:
    """The text itself with white space made single; None where nothing was written."""
    return " ".join(text.split()) or None


def _plain(text: str) -> str:
    return " ".join(text.split()).strip(" .,:;!?\"'()*").casefold()
