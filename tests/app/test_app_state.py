"""The table of what the URL holds."""

from __future__ import annotations

import pytest

from app import state
from cdka.errors import CdkaError

OTHER = {
    str: ["llama-2-7b", "q_proj,v_proj", "0.5%"],
    int: [1, 16, 64],
    float: [0.5, 2e-3],
    bool: [True, False],
    list: [("2,8,4", "lora 8"), ("full",)],
}
OWN = {"model": "llama-2-7b", "on": "llama-2-7b", "align_model": "llama-2-7b", "task": "digits", "align_task": "digits"}


@pytest.mark.parametrize("prop", state.PROPERTIES, ids=lambda p: p.name)
def test_every_property_round_trips(prop):
    values = [OWN[prop.name]] if prop.name in OWN else OTHER[prop.kind]
    for value in values:
        if value == prop.default:
            continue
        try:
            written = prop.write(value)
            assert prop.read(written) == value
        except CdkaError:
            assert prop.check is not None  # another room's own range
    assert prop.write(prop.default) is None, "defaults stay out of the URL"


@pytest.mark.parametrize("prop", state.PROPERTIES, ids=lambda p: p.name)
def test_every_default_is_valid(prop):
    texts = [str(item) for item in prop.default] if prop.kind is list else [str(prop.default)]
    assert prop.read(texts) == prop.default


def test_names_are_unique_within_a_room():
    for name in {room for prop in state.PROPERTIES for room in prop.rooms}:
        names = [prop.name for prop in state.PROPERTIES if name in prop.rooms]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"r1": ["three"]}, "r1 must be a whole number: got 'three'"),
        ({"r": ["0"]}, "r must lie between 1 and"),
        ({"model": ["lama-2-7b"]}, "'llama-2-7b'"),
        ({"basket": ["2,8"]}, "components must be three integers"),
    ],
)
def test_a_bad_url_gives_one_notice_and_the_default(params, told):
    values, notices = state.read_all("design", params)
    (name,) = params
    assert values[name] == state.table("design")[name].default
    assert len(notices) == 1
    assert told in notices[0]
    assert "\n" not in notices[0]


def test_links_leave_out_defaults_and_refuse_unknown_names():
    assert state.query("design", r1=2, r2=16, model="gpt2") == {"r2": ["16"], "model": ["gpt2"]}
    with pytest.raises(CdkaError, match=r"unknown property 'r3' of design"):
        state.query("design", r3=1)
