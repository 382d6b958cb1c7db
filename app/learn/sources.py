"""Sources of the course's statements: ``((paper: KEY))`` or ``((ours: what made it))`` behind them, in the text.

``references.toml`` holds what the keys stand for: what we could read of the paper and its published code, and links.
"""

from __future__ import annotations

import html
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.learn.course import CITED, CODE, OURS, PAPER, TEXTBOOK, Page
from cdka.errors import unknown

ARXIV = "https://arxiv.org/abs/2602.01267"
REPOSITORY = "https://github.com/rainstonee/CDKA"
MEANINGS = {
    PAPER: "Bai et al., Diving into Kronecker Adapters: Component Design Matters, arXiv 2602.01267, 2026 (PMLR 306)",
    CODE: "the code that the paper's authors published",
    OURS: "our own derivation or measurement; each mark names what makes it",
    TEXTBOOK: "textbook knowledge",
    CITED: "another publication",
}
"""Meaning of each mark, in the order of the legend."""
LINKS = {PAPER: ARXIV, CODE: REPOSITORY}

_MARK = re.compile(r"\s*\(\((" + "|".join(MEANINGS) + r")(?::\s+(.+?))?\)\)(?!\))", re.DOTALL)


@dataclass(frozen=True)
class Mark:
    """One mark: its kind, what exactly is meant (empty: the meaning of the kind says all), its short text, its link."""

    kind: str
    detail: str = ""
    label: str = ""
    url: str = ""


@lru_cache(maxsize=1)
def references() -> dict[str, dict[str, dict[str, str]]]:
    """The entries of ``references.toml`` by kind and key."""
    return tomllib.loads(Path(__file__).with_name("references.toml").read_text(encoding="utf-8"))


def marks(text: str) -> tuple[Mark, ...]:
    """The marks of a text, in its order. Raises CdkaError where a key has no entry."""
    return tuple(map(_mark, _MARK.finditer(text)))


def marked(page: Page) -> str:
    """The text of a page; a page whose text marks nothing has one source for all, which then stands at its end."""
    text = page.text.strip()
    return text if marks(text) else f"{text} (({page.source}))"


def to_html(text: str) -> str:
    """The marks as small words, reached by pointer, touch and keyboard, that show their source; citations are links."""

    def tag(match: re.Match[str]) -> str:
        mark = _mark(match)
        shown = html.escape(f"{mark.kind}: {mark.detail or MEANINGS[mark.kind]}", quote=True)
        if mark.kind == CITED:
            return (
                f'<a class="cdka-source" href="{mark.url}" target="_blank" rel="noopener" data-card="{shown}">'
                f"{html.escape(mark.label)}</a>"
            )
        return (
            f'<span class="cdka-source" role="note" tabindex="0" data-card="{shown}" aria-label="{shown}">'
            f"{mark.kind}</span>"
        )

    return _MARK.sub(tag, text)


def to_markdown(text: str) -> str:
    """The marks as they stand in a notebook: small words in brackets; citations are links."""

    def tag(match: re.Match[str]) -> str:
        mark = _mark(match)
        return f" [[{mark.label}]({mark.url})]" if mark.kind == CITED else f" <sup>[{mark.kind}]</sup>"

    return _MARK.sub(tag, text)


def plain(text: str) -> str:
    """A text without its marks."""
    return _MARK.sub("", text)


def legend(page: Page) -> list[str]:
    """One line of Markdown for every source of a page, each once, in the order of the text."""
    found = dict.fromkeys(marks(marked(page)))
    kinds = {mark.kind for mark in found}
    lines = [
        f"**{mark.kind}**: " + (f"[{mark.detail}]({mark.url})" if mark.url else mark.detail) + "."
        for mark in found
        if mark.detail
    ]
    general = {kind: f"[{meaning}]({LINKS[kind]})" if kind in LINKS else meaning for kind, meaning in MEANINGS.items()}
    return lines + [f"*{kind}* means {general[kind]}." for kind in MEANINGS if kind in kinds and kind != CITED]


def _mark(match: re.Match[str]) -> Mark:
    kind, detail = match[1], " ".join((match[2] or "").split())
    if kind not in (PAPER, CODE, CITED):
        return Mark(kind, detail)
    known = references()[kind]
    if detail not in known:
        raise unknown(f"{kind} reference", detail, known, where="of references.toml")
    entry = known[detail]
    if kind == CITED:
        return Mark(kind, f"{entry['name']}, {entry['title']}", entry["name"], entry["url"])
    return Mark(kind, f"{entry['says']} ({entry['where']})")
