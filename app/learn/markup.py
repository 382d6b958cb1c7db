"""The small language of the course's text: ``[[term]]`` links to the glossary, `` `r1` `` is a coloured letter,
``((paper: KEY))`` says where a statement comes from; ``prose`` has the paragraphs that begin with a mark."""

from __future__ import annotations

import re
from typing import Any

from app.glossary import glossary_link
from app.learn import prose, sources
from cdka import palette

_TERM = re.compile(r"\[\[([^\]|]+)(?:\|([^\]]+))?\]\]")
_LETTER = re.compile(r"`(r1|r2|r)`")
_TINTED = re.compile(r"<(r1|r2|r|lora)(?::([^<>]*))?>")
_TEX_LETTERS = {"r1": "r_1", "r2": "r_2", "r": "r", "lora": "r"}


def to_html(text: str) -> str:
    """Markdown with our marks turned into HTML spans and links; the rest is left to Markdown."""
    blocks = []
    for part in prose.in_studio(text):
        if part.startswith(prose.TRY):
            blocks.append(f'<div class="learn-try">\n\n{prose.try_of(part)}\n\n</div>')
        elif part.startswith(prose.IDEA):
            blocks.append(f'<div class="learn-idea">\n\n{prose.idea_of(part)}\n\n</div>')
        else:
            blocks.append(part)
    linked = _TERM.sub(_link, sources.to_html("\n\n".join(blocks)))
    return _LETTER.sub(r'<span class="cdka-letter \1">\1</span>', linked)


def to_markdown(text: str) -> str:
    """Plain Markdown for a notebook: terms in words, letters as mathematics, sources in brackets, nothing to click."""
    written = _TERM.sub(_words, sources.to_markdown(prose.in_notebook(text)))
    return _LETTER.sub(lambda match: f"${_TEX_LETTERS[match[1]]}$", written)


def to_plain(text: str) -> str:
    """Markdown for paper: terms in words, letters as mathematics, without sources."""
    written = _TERM.sub(_words, sources.plain(text))
    return _LETTER.sub(lambda match: f"${_TEX_LETTERS[match[1]]}$", written)


def _link(match: re.Match[str]) -> str:
    return glossary_link(" ".join(match[1].split()), match[2] and " ".join(match[2].split()))


def _words(match: re.Match[str]) -> str:
    return " ".join((match[2] or match[1]).split())


def to_latex(text: str, *, dark: bool | None = None) -> str:
    """LaTeX with ``<r1>`` and ``<r1:2>`` in the inks of the theme; without colour where ``dark`` is None."""
    inks = palette.theme(bool(dark))

    def tint(match: re.Match[str]) -> str:
        body = match[2] if match[2] is not None else _TEX_LETTERS[match[1]]
        return body if dark is None else rf"\textcolor{{{getattr(inks, match[1])}}}{{{body}}}"

    return _TINTED.sub(tint, text)


def lines(latex: str, *, dark: bool | None = None) -> list[str]:
    """The lines of an equation (parted by ``\\\\ ``) as LaTeX; what has an environment of its own stays whole."""
    plain = to_latex(latex, dark=dark)
    return [plain] if r"\begin" in plain else plain.split(r"\\ ")


def number(value: Any, digits: int = 3) -> str:
    """A number for LaTeX: thin spaces between thousands, ``digits`` significant digits for fractions."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", r"\,")
    return f"{value:.{digits}g}"
