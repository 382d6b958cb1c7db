"""Terms are linked to their explanations where they stand; no room has a list of words at its foot."""

from __future__ import annotations

import pytest


def test_captions_link_the_terms_they_use(room):
    compare = [element.value for element in room("compare", view="Curves").markdown if "cdka-caption" in element.value]
    assert any('href="learn?chapter=glossary' in value for value in compare)


@pytest.mark.parametrize("name", ["design", "align", "finetune", "sweeps", "compare", "learn"])
def test_no_room_ends_in_a_list_of_words(room, name):
    assert not any("cdka-words" in element.value for element in room(name).markdown)
