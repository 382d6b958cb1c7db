"""The words at the foot of a room: each stands in the room, and no term of the field stands there without its link."""

from __future__ import annotations

import html
import re

import pytest

from app.glossary import find_term, terms
from app.terms import ROOM_TERMS

EVERYDAY = {"adapter", "run", "seed", "sweep", "component", "CDKA", "num_params", "solver", "base layer"}
"""Words that are said in passing everywhere."""


VIEWS = {
    "design": [
        {},
        {"list": "All", "weigh_rank": "1.0"},
        {"model": "llama-2-7b", "modules": ["q_proj"], "r": "9"},
        {"budget": "ten"},
        {"r1": "3"},
        {"model": "mixtral-8x7b"},
    ],
    "align": [{}, {"align_model": "bert-base"}],
    "finetune": [
        {},
        {"basket": ["lora 8", "2,8,4"], "show": "all"},
        {"on": "math-lm", "task": "local-instruct"},
        {"on": "llama-2-7b", "task": "metamath-gsm8k"},
    ],
    "sweeps": [
        {},
        {"arms": "Equal budget", "plan_budget": "lora:4"},
        {"arms": "Plan file"},
        {"part": "Studies"},
        {"axis_r1": ["3"]},
    ],
    "compare": [
        {"view": view}
        for view in ("Curves", "Map", "Cost", "Differences", "Budget", "Settings", "Anatomy", "Examples", "Export")
    ],
}
"""What a reader can open in each room of an empty home; Compare then shows its example. Each as an address."""


def shown(app) -> str:
    """What a reader can see in the room or open there: text, labels, helps, choices, column names; not its foot."""
    found = [element.value for element in app.markdown if "cdka-words" not in element.value]
    for kind in (
        "selectbox",
        "multiselect",
        "number_input",
        "slider",
        "select_slider",
        "button",
        "button_group",
        "text_input",
        "toggle",
        "checkbox",
    ):
        for widget in app.get(kind):
            options = [str(option) for option in getattr(widget, "options", None) or ()]
            found += [widget.label or "", getattr(widget, "help", "") or "", *options]
    for kind in ("caption", "info", "warning"):
        found += [element.value for element in app.get(kind)]
    for table in app.dataframe:
        found += map(str, table.value.columns)
    return html.unescape(re.sub(r"<[^>]*>", " ", " ".join(found)))


def stands(term, text: str) -> bool:
    names = (term.name, *term.aliases)
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) for name in names)


@pytest.mark.parametrize("name", sorted(ROOM_TERMS))
def test_the_words_at_the_foot_are_those_of_the_room(room, name):
    """In every view: no term stands there without its link; and over all views, no link without its term."""
    listed = [find_term(term) for term in ROOM_TERMS[name]]
    unlinked, met = {}, set()
    for query in VIEWS[name]:
        app = room(name, **query)
        text = shown(app)
        met |= {term for term in terms() if stands(term, text)}
        left = [term.name for term in terms() if term not in listed and stands(term, text)]
        unlinked |= {term: query for term in left if term not in EVERYDAY}
        foot = next(element.value for element in app.markdown if "cdka-words" in element.value)
        assert foot.count('href="learn?chapter=glossary') == len(listed)
    assert unlinked == {}
    assert [term.name for term in listed if term not in met] == []


def test_captions_link_the_terms_they_use(room):
    compare = [element.value for element in room("compare").markdown if "cdka-caption" in element.value]
    assert any('href="learn?chapter=glossary' in value for value in compare)


def test_learn_links_its_words_where_they_stand(room):
    assert not any("cdka-words" in element.value for element in room("learn").markdown)
