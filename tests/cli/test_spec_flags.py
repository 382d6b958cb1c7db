"""The flags of a run come from the fields of RunSpec: none is forgotten, each is checked by the field's own facts."""

from __future__ import annotations

import argparse
from dataclasses import fields

import pytest

from cdka.cli.flags import add_spec_arguments, spec_settings
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.sweep.grid import INTEGERS, NUMBERS, SETTINGS, WORDS

SAMPLES = {
    "components": ("2,8,4", "2,8,4"),
    "component_pattern": ("q_proj=2,8,4", {"q_proj": Components(2, 8, 4)}),
    "task_options": ("split=train", {"split": "train"}),
    "target_modules": ("q_proj,v_proj", ("q_proj", "v_proj")),
    "retain": ("digits", "digits"),  # a task of the catalogue; anything else is a file
}


def settings(*words: str, without: tuple[str, ...] = ()) -> dict:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_spec_arguments(parser, without=without)
    return spec_settings(parser.parse_args(words))


def sample(one):
    """(word on the command line, value expected) for a field."""
    if one.name in SAMPLES:
        return SAMPLES[one.name]
    kind = str(one.type)
    if kind == "bool":
        return None, True
    if kind.startswith(("int", "float")):
        return ("3", 3) if kind.startswith("int") else ("0.25", 0.25)
    value = one.metadata.get("choices", ["cpu"])[-1]
    return value, value


@pytest.mark.parametrize("one", [f for f in fields(RunSpec) if f.name not in ("model", "task")], ids=lambda f: f.name)
def test_every_field_of_a_run_is_a_flag_and_a_setting_of_a_plan(one):
    word, value = sample(one)
    flag = "--" + one.metadata.get("flag", one.name.replace("_", "-"))
    assert settings(flag, *(() if word is None else (word,))) == {one.name: value}
    assert settings() == {}
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        settings(flag, *(() if word is None else (word,)), without=(one.name,))
    assert one.metadata["help"]
    assert one.name == "seed" or one.name in SETTINGS


def test_the_kinds_of_setting_follow_from_the_types():
    assert {"rank", "steps", "batch_size", "lokr_factor", "r1", "r2", "r"} <= set(INTEGERS)
    assert set(NUMBERS) == {f.name for f in fields(RunSpec) if f.type == "float"}
    assert {"model", "task", "method", "target_modules", "device"} <= set(WORDS)
    assert not set(INTEGERS) & set(NUMBERS) | set(NUMBERS) & set(WORDS)


@pytest.mark.parametrize("one", [f for f in fields(RunSpec) if set(f.metadata) & {"choices", "least", "above"}])
def test_a_value_outside_a_fields_range_is_refused_by_its_name(one):
    facts = one.metadata
    wrong = ["none such"] if "choices" in facts else ["1", True, facts.get("least", facts.get("above")) - 1]
    if "below" in facts:
        wrong.append(facts["below"])
    for value in wrong:
        with pytest.raises(CdkaError, match=one.name):
            RunSpec("digits-vit", "digits-flip", **{one.name: value})
