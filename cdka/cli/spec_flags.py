"""The flags that describe a run, one for each field of RunSpec, shared by the commands that take them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.spec import FIELD_NAMES, RunSpec
from cdka.tasks.catalogue import TASKS
from cdka.tasks.options import COPIES

_NOT_FLAGS = ("model", "task")
"""Fields that every command declares in its own way."""


def add_spec_arguments(parser: argparse.ArgumentParser, *, without: Sequence[str] = ()) -> None:
    """Add a flag for every field of RunSpec but those named in ``without``; unset ones are None."""
    for one in fields(RunSpec):
        if one.name in (*_NOT_FLAGS, *without):
            continue
        facts = one.metadata
        known = ", ".join(filter(None, (*facts.get("choices", ()), *facts.get("words", ()))))
        text = facts["help"] + (f": {known}" if known else "")
        parser.add_argument(
            f"--{facts.get('flag', one.name.replace('_', '-'))}",
            dest=one.name,
            help=text.replace("%", "%%"),
            **_how_given(str(one.type), facts.get("metavar")),
        )
    parser.add_argument("--epochs", type=float, metavar="N", help="passes over the training data, in place of --steps")


def _how_given(kind: str, metavar: str | None) -> dict[str, Any]:
    """The arguments of ``add_argument`` for a field of this type."""
    if kind == "bool":
        return {"action": argparse.BooleanOptionalAction, "default": None}
    if kind == "int | str":
        return {"type": _number_or_word, "metavar": metavar or "N"}
    if kind.startswith("Mapping"):
        return {"action": "append", "metavar": metavar}
    if kind.startswith(("int", "float")):
        return {"type": int if kind.startswith("int") else float, "metavar": metavar or "N"}
    return {"metavar": metavar or "NAME"}


def _number_or_word(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def spec_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, for ``cdka.runs.resolve.spec_for``. Raises CdkaError."""
    given = {
        key: value
        for key, value in vars(args).items()
        if key in FIELD_NAMES and key not in _NOT_FLAGS and value is not None
    }
    names = given.get("target_modules")
    if isinstance(names, str) and "," in names:
        given["target_modules"] = tuple(name.strip() for name in names.split(","))
    if "component_pattern" in given:
        pairs = [_pair(text, "--pattern", "q_proj=2,8,4") for text in given["component_pattern"]]
        given["component_pattern"] = {name: Components.parse(value) for name, value in pairs}
    if "task_options" in given:
        options = dict(_pair(text, "--task-option", "split=train") for text in given["task_options"])
        given["task_options"] = {key: _absolute(value) if key in COPIES else value for key, value in options.items()}
    if given.get("retain") and given["retain"] not in TASKS:
        given["retain"] = str(Path(given["retain"]).expanduser().resolve())
    if args.epochs is not None:
        given["epochs"] = args.epochs
    return given


def _absolute(text: str) -> str:
    """A path that is there, for a worker that runs in another folder; anything else as it is."""
    path = Path(text).expanduser()
    return str(path.resolve()) if path.exists() else text


def seeds(text: str) -> int | list[int]:
    """The value of ``--seeds``: a number of seeds, or the seeds themselves where there is a comma.

    One seed alone is written with a comma behind it: ``7,``.
    """
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise CdkaError(f"--seeds takes a number of seeds or a list: got {text!r}. Example: --seeds 3.") from None
    if len(set(numbers)) < len(numbers):
        raise CdkaError(f"--seeds takes each seed once: got {text!r}. Example: --seeds 0,1,2.")
    return numbers if "," in text else numbers[0]


def _pair(text: str, flag: str, example: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise CdkaError(f"{flag} takes NAME=VALUE: got {text!r}. Example: {flag} {example}")
    return name, value
