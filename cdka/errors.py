"""The one error type for bad input, and the common parts of its messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class CdkaError(ValueError):
    """Bad input, in one line: the rule, the value got, where, and the next step.

    The command line prints it and exits with 2; the Studio shows it in place. Any other
    exception is a defect of ours and keeps its traceback.

    >>> cdka.Components(0, 8, 4)
    Traceback (most recent call last):
    cdka.errors.CdkaError: r1 must be a positive integer: got 0. Example: r1=2, r2=8, r=4.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_shortened(str(message)))


MAX_WORD_CHARS, MAX_MESSAGE_CHARS = 200, 2_000
"""The longest word and text of a refusal: more of what was got is left out in the middle."""


def _shortened(message: str) -> str:
    """The message with the middle of overlong words, and of itself, left out; the next step at its end stays."""
    if len(message) <= MAX_WORD_CHARS:
        return message
    message = re.sub(rf"\S{{{MAX_WORD_CHARS + 1},}}", lambda word: _cut(word[0], 120), message)
    return message if len(message) <= MAX_MESSAGE_CHARS else _cut(message, MAX_MESSAGE_CHARS - 300)


def _cut(text: str, kept: int) -> str:
    """The beginning and the end of a text, ``kept`` characters in all, and the number of those between."""
    tail = kept // 3
    return f"{text[: kept - tail]}[... {len(text) - kept:,} characters ...]{text[-tail:]}"


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names closest in spelling to ``name``, best first (possibly none)."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()
    inside = [candidate for key, candidate in by_folded.items() if folded and folded in key]
    close = [by_folded[key] for key in difflib.get_close_matches(folded, by_folded, n=most, cutoff=0.55)]
    return list(dict.fromkeys(close + inside))[:most]


def unknown(what: str, name: str, known: Iterable[str], *, where: str = "", next_step: str = "") -> CdkaError:
    """The error for a name that is not in ``known``, with the nearest spellings."""
    known = [str(candidate) for candidate in known]  # a member of an enum by its value
    close = nearest(name, known)
    if close:
        hint = "Did you mean " + " or ".join(repr(candidate) for candidate in close) + "?"
    elif len(known) <= 12 and not next_step.startswith("Known"):
        hint = "Known: " + ", ".join(known) + "."
    else:
        hint = ""
    place = f" {where}" if where else ""
    return CdkaError(" ".join(part for part in (f"unknown {what} {name!r}{place}.", hint, next_step) if part))
