"""The glossary as a page: every term, searchable, the one that was asked for first."""

from __future__ import annotations

import html

import streamlit as st

from app import widgets
from app.glossary import Term, find_term, terms


def render(asked: str | None) -> None:
    """All terms; ``asked`` (a name or alias from the URL) stands on top."""
    st.markdown("# Glossary", anchors=False)
    with widgets.errors_shown():
        if asked:
            widgets.html_block(f'<dl class="learn-glossary learn-asked">{_entry(find_term(asked))}</dl>')
    wanted = st.text_input("Find a word", key="find", placeholder="alignment, rank, budget ...", live=True, width=320)
    found = [term for term in terms() if matches(term, wanted)]
    if not found:
        widgets.error(f"no term contains {wanted!r}. Clear the field to see all {len(terms())}.")
    widgets.html_block(f'<dl class="learn-glossary">{"".join(map(_entry, found))}</dl>')


def matches(term: Term, wanted: str) -> bool:
    """True where a term is found by a text: in its name, its other names or its meaning."""
    text = " ".join((term.name, *term.aliases, term.meaning)).casefold()
    return all(word in text for word in wanted.casefold().split())


def _entry(term: Term) -> str:
    where = f' <a href="learn?chapter={term.chapter}" target="_self">Chapter {term.chapter}</a>' if term.chapter else ""
    source = f' <span class="cdka-quiet">({html.escape(term.source)})</span>' if term.source else ""
    return f"<div><dt>{html.escape(term.name)}</dt><dd>{html.escape(term.meaning)}{source}{where}</dd></div>"
