"""The words of the Studio, each explained once. ``glossary_link`` is for every view."""

from __future__ import annotations

import html
import json
import re
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


IN_PASSING = frozenset(
    {
        "r",
        "r1",
        "r2",
        "adapter",
        "arm",
        "CDKA",
        "component",
        "run",
        "seed",
        "sweep",
        "solver",
        "pack",
        "span",
        "twin",
        "energy",
        "projection",
        "initialisation",
        "Adam",
    }
)
"""Words that captions use in passing; they are not linked there."""


@lru_cache(maxsize=1)
def _term_pattern() -> re.Pattern[str]:
    names = sorted((term.name for term in terms() if term.name not in IN_PASSING), key=len, reverse=True)
    return re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, names))})(?![\w-])", re.IGNORECASE)


def link_terms(text: str) -> str:
    """Plain text as safe HTML, each term linked to its explanation where it is first met."""
    found, done, parts = set(), 0, []
    for match in _term_pattern().finditer(text):
        term = find_term(match[1])
        if term.name not in found:
            found.add(term.name)
            parts += [html.escape(text[done : match.start()]), glossary_link(term.name, match[1])]
            done = match.end()
    return "".join((*parts, html.escape(text[done:])))


def glossary_link(term: str, shown: str | None = None) -> str:
    """A word (HTML) with a card: its explanation and a link to the glossary, shown on hover, touch and focus."""
    found = find_term(term)
    where = f"learn?chapter=glossary&amp;term={quote(found.slug)}"
    return (
        f'<span class="cdka-term" tabindex="0">{html.escape(shown or term)}<span class="cdka-card" '
        f'style="display:none">'
        f'{html.escape(found.meaning)} <a href="{where}" target="_blank" rel="noopener">Glossary</a></span></span>'
    )
