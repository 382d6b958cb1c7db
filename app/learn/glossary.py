"""The words of the Studio, each explained once. ``glossary_link`` is for every view."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from cdka.errors import unknown
from cdka.paths import assets_dir


@dataclass(frozen=True)
class Term:
    """One word: its meaning in one or two sentences, other names it goes by, the chapter that explains it, source."""

    name: str
    meaning: str
    aliases: tuple[str, ...] = ()
    chapter: int | None = None
    source: str = ""

    @property
    def slug(self) -> str:
        """The name as it stands in a link."""
        return self.name.lower().replace(" ", "-")


@lru_cache(maxsize=1)
def terms() -> tuple[Term, ...]:
    """Every term, in alphabetical order."""
    entries = json.loads((assets_dir() / "learn" / "glossary.json").read_text(encoding="utf-8"))
    found = [
        Term(e["name"], e["meaning"], tuple(e.get("aliases", ())), e.get("chapter"), e.get("source", ""))
        for e in entries
    ]
    return tuple(sorted(found, key=lambda term: term.name.lower()))


@lru_cache(maxsize=1)
def _by_name() -> dict[str, Term]:
    names: dict[str, Term] = {}
    for term in terms():
        for name in (term.name, term.slug, *term.aliases):
            names[name.lower()] = term
    return names


def find_term(name: str) -> Term:
    """The term called ``name``, by any of its names. Raises CdkaError with the nearest names where there is none."""
    try:
        return _by_name()[name.lower()]
    except KeyError:
        raise unknown("term", name, _by_name()) from None


def glossary_link(term: str, shown: str | None = None) -> str:
    """A link (HTML) to the explanation of ``term``, which also shows on hover; it opens beside the present page."""
    found = find_term(term)
    text = html.escape(shown or term)
    meaning = html.escape(found.meaning, quote=True)
    return (
        f'<a class="cdka-term" href="learn?chapter=glossary&amp;term={quote(found.slug)}" target="_blank" '
        f'rel="noopener" title="{meaning}">{text}</a>'
    )
