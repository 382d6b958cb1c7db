"""The words at the foot of a room: each stands in the room, and no term of the field stands there without its link."""

from __future__ import annotations

import html
import re

import pytest

from app.learn.glossary import find_term, terms
from app.terms import ROOM_TERMS

EVERYDAY = {"adapter", "run", "seed", "sweep", "component", "CDKA", "num_params", "solver", "base layer"}
"""Words that are said in passing everywhere."""


def shown(app) -> str:
    """What a reader can see in the room or open there: text, labels, helps, choices, column names; not its foot."""
    found = [element.value for element in app.markdown if "cdka-words" not in element.value]
    for kind in ("selectbox", "multiselect", "number_input", "slider", "select_slider", "button", "button_group",
                 "text_input", "toggle", "checkbox"):  # fmt: skip
        for widget in app.get(kind):
            options = [str(option) for option in getattr(widget, "options", None) or ()]
            found += [widget.label or "", getattr(widget, "help", "") or "", *options]
    for table in app.dataframe:
        found += map(str, table.value.columns)
    return html.unescape(re.sub(r"<[^>]*>", " ", " ".join(found)))


def stands(term, text: str) -> bool:
    names = (term.name, *term.aliases)
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) for name in names)


@pytest.mark.parametrize("name", sorted(ROOM_TERMS))
def test_the_words_at_the_foot_are_those_of_the_room(room, name):
    app = room(name)
    text = shown(app)
    listed = [find_term(term) for term in ROOM_TERMS[name]]
    assert [term.name for term in listed if not stands(term, text)] == []
    unlinked = [term.name for term in terms() if term not in listed and stands(term, text)]
    left = ", ".join(term for term in unlinked if term not in EVERYDAY)
    assert not left, left
    foot = next(element.value for element in app.markdown if "cdka-words" in element.value)
    assert foot.count('href="learn?chapter=glossary') == len(listed)


def test_learn_links_its_words_where_they_stand(room):
    assert not any("cdka-words" in element.value for element in room("learn").markdown)
