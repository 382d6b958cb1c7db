"""Where a statement of the course comes from: ``((paper))`` behind it, or ``((ours: what made it))``, in the text."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from app.learn.course import CITED, OURS, PAPER, TEXTBOOK, Page

ARXIV = "https://arxiv.org/abs/2602.01267"
MEANINGS = {
    PAPER: "Diving into Kronecker Adapters, arXiv 2602.01267",
    OURS: "our own derivation or measurement; the code of this page makes it",
    TEXTBOOK: "textbook knowledge; the code of this page checks it",
    CITED: "another publication",
}
"""What each mark stands for, in the order of the legend."""

_MARK = re.compile(r"\s*\(\((" + "|".join(MEANINGS) + r")(?::\s+(.+?))?\)\)(?!\))", re.DOTALL)


@dataclass(frozen=True)
class Mark:
    """One mark: its kind, and in words what exactly is meant (empty: the meaning of the kind says all)."""

    kind: str
    detail: str = ""


def marks(text: str) -> tuple[Mark, ...]:
    """The marks of a text, in its order."""
    return tuple(map(_mark, _MARK.finditer(text)))


def marked(page: Page) -> str:
    """The text of a page; a page whose text marks nothing has one source for all, which then stands at its end."""
    text = page.text.strip()
    return text if marks(text) else f"{text} (({page.source}))"


def to_html(text: str) -> str:
    """The marks as small words that can be reached by keyboard and tell their source on hover and on focus."""

    def tag(match: re.Match[str]) -> str:
        mark = _mark(match)
        told = html.escape(f"{mark.kind}: {mark.detail or MEANINGS[mark.kind]}", quote=True)
        return f'<span class="cdka-source" role="note" tabindex="0" title="{told}">{mark.kind}</span>'

    return _MARK.sub(tag, text)


def to_markdown(text: str) -> str:
    """The marks as they stand in a notebook: small words in brackets."""
    return _MARK.sub(lambda match: f" <sup>[{match[1]}]</sup>", text)


def legend(page: Page) -> list[str]:
    """One line of Markdown for every source of a page, each once, in the order of the text."""
    found = dict.fromkeys(marks(marked(page)))
    kinds = {mark.kind for mark in found}
    lines = [f"**{mark.kind}**: {mark.detail}." for mark in found if mark.detail]
    general = {kind: f"[{meaning}]({ARXIV})" if kind == PAPER else meaning for kind, meaning in MEANINGS.items()}
    return lines + [f"*{kind}* means {general[kind]}." for kind in MEANINGS if kind in kinds and kind != CITED]


def _mark(match: re.Match[str]) -> Mark:
    return Mark(match[1], " ".join((match[2] or "").split()))
