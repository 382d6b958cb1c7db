"""The small language of the course's text: ``[[term]]`` links to the glossary, `` `r1` `` is a coloured letter,
``((paper))`` says where a statement comes from."""

from __future__ import annotations

import html
import re
from typing import Any

from app.glossary import find_term, glossary_link
from app.learn import sources

INK_LIGHT = {"r1": "#B34E00", "r2": "#00659E", "r": "#007A59", "lora": "#5D636B"}
INK_DARK = {"r1": "#FF9147", "r2": "#5DB5EE", "r": "#3CCB9E", "lora": "#A5ABB3"}
"""The inks of ``studio.css`` for LaTeX, which knows no style sheet."""

_TERM = re.compile(r"\[\[([^\]|]+)(?:\|([^\]]+))?\]\]")
_LETTER = re.compile(r"`(r1|r2|r)`")
_TINTED = re.compile(r"<(r1|r2|r|lora)(?::([^<>]*))?>")
_TEX_LETTERS = {"r1": "r_1", "r2": "r_2", "r": "r", "lora": "r"}


def to_html(text: str) -> str:
    """Markdown with our marks turned into HTML spans and links; the rest is left to Markdown."""
    linked = _TERM.sub(lambda m: glossary_link(m[1], m[2]), sources.to_html(text))
    return _LETTER.sub(r'<span class="cdka-letter \1">\1</span>', linked)


def to_markdown(text: str) -> str:
    """Plain Markdown for a notebook: terms in words, letters in bold, sources in brackets."""
    plain = _TERM.sub(lambda m: m[2] or find_term(m[1]).name, sources.to_markdown(text))
    return _LETTER.sub(r"**\1**", plain)


def to_latex(text: str, *, dark: bool | None = None) -> str:
    """LaTeX with ``<r1>`` and ``<r1:2>`` coloured for the theme; without colour where ``dark`` is None."""
    inks = INK_DARK if dark else INK_LIGHT

    def tint(match: re.Match[str]) -> str:
        body = match[2] if match[2] is not None else _TEX_LETTERS[match[1]]
        return body if dark is None else rf"\textcolor{{{inks[match[1]]}}}{{{body}}}"

    return _TINTED.sub(tint, text)


def in_lines(latex: str) -> str:
    """LaTeX of several lines (parted by ``\\\\ ``) one beneath the other; what has its own lines is left alone."""
    if r"\\ " not in latex or r"\begin" in latex:
        return latex
    return rf"\begin{{gathered}}{latex}\end{{gathered}}"


def number(value: Any, digits: int = 3) -> str:
    """A number for LaTeX: thin spaces between thousands, ``digits`` significant digits for fractions."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", r"\,")
    return f"{value:.{digits}g}"


def escape(text: str) -> str:
    """Text made safe for HTML."""
    return html.escape(text, quote=True)
