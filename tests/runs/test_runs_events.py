"""Events as JSON and back: no kind loses or renames anything on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields

import pytest

from cdka.runs.events import KINDS, Evaluated, Event, Step, from_dict

VALUES = {"int": 3, "float": 0.25, "str": "words", "bool": True}


def filled(kind: type[Event], *, optional: bool) -> Event:
    """An event with a value in every field, or in the required ones alone."""
    values = {}
    for one in fields(kind):
        required = one.default is one.default_factory  # both are MISSING
        if not (required or optional):
            continue
        plain = str(one.type).split(" | ")[0]
        if one.name == "metrics":
            values[one.name] = {"eval/accuracy": 0.5, "eval/loss": 1.5}
        elif plain in VALUES:
            values[one.name] = VALUES[plain]
        else:
            values[one.name] = {"a": 1} if plain.startswith("Mapping") else ["a", "b"]
    return kind(**values)


def same(one: object, other: object) -> bool:
    """Equal, with lists and tuples, and all mappings, taken as JSON takes them."""
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_event_survives_json(kind, optional):
    event = filled(kind, optional=optional)
    stored = json.loads(json.dumps({**event.to_dict(), "seq": 7, "at": 1.5}))
    back = from_dict(stored)
    assert type(back) is kind
    for one in fields(kind):
        assert same(getattr(event, one.name), getattr(back, one.name)), one.name


def test_metrics_are_named_by_their_split_in_json():
    assert Step(step=2, loss=0.5).to_dict() == {"kind": "step", "step": 2, "train/loss": 0.5}
    document = Evaluated(step=2, metrics={"eval/accuracy": 0.75}).to_dict()
    assert document == {"kind": "eval", "step": 2, "eval/accuracy": 0.75}


def test_no_field_hides_a_method_of_the_base():
    methods = {name for name in vars(Event) if callable(getattr(Event, name)) or name == "from_body"}
    for kind in KINDS.values():
        assert not methods & {one.name for one in fields(kind)}, kind


def test_an_unknown_kind_or_entry_is_refused():
    with pytest.raises(KeyError):
        from_dict({"kind": "surprise"})
    with pytest.raises(TypeError):
        from_dict({"kind": "resumed", "step": 1, "extra": 2})
