"""The flags that several commands share: one for each field of RunSpec, and those that name the user's own data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.paths import expanded
from cdka.runs.spec import FIELD_NAMES, RunSpec
from cdka.tasks.catalogue import TASKS
from cdka.tasks.files.instructions import COMPARISONS
from cdka.tasks.files.table import looks_like_data
from cdka.tasks.options import COPIES

_NOT_FLAGS = ("model", "task")
"""Fields that every command declares in its own way."""


def add_spec_arguments(parser: argparse.ArgumentParser, *, without: Sequence[str] = ()) -> None:
    """Add a flag for every field of RunSpec but those named in ``without``; unset ones are None."""
    for one in fields(RunSpec):
        if one.name in (*_NOT_FLAGS, *without):
            continue
        facts = one.metadata
        known = ", ".join(filter(None, (*facts.get("choices", ()), *facts.get("words", ()), *facts.get("asks", ()))))
        text = facts["help"] + (f": {known}" if known else "")
        parser.add_argument(
            f"--{facts.get('flag', one.name.replace('_', '-'))}",
            dest=one.name,
            help=text.replace("%", "%%"),
            **_how_given(f"{one.type} | str" if "asks" in facts else str(one.type), facts.get("metavar")),
        )
    parser.add_argument("--epochs", type=float, metavar="N", help="passes over the training data, in place of --steps")


def _how_given(kind: str, metavar: str | None) -> dict[str, Any]:
    """The arguments of ``add_argument`` for a field of this type."""
    if kind == "bool":
        return {"action": argparse.BooleanOptionalAction, "default": None}
    if kind == "int | str":
        return {"type": _number_or_word, "metavar": metavar or "N"}
    if kind == "float | str":
        return {"type": _rate_or_word, "metavar": metavar or "N"}
    if kind.startswith("Mapping"):
        return {"action": "append", "metavar": metavar}
    if kind.startswith(("int", "float")):
        return {"type": int if kind.startswith("int") else float, "metavar": metavar or "N"}
    return {"metavar": metavar or "NAME"}


def _number_or_word(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _rate_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


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
        given["retain"] = str(expanded(given["retain"]).resolve())
    if args.epochs is not None:
        given["epochs"] = args.epochs
    return given


def _absolute(text: str) -> str:
    """A path that is there, for a worker that runs in another folder; anything else as it is."""
    path = expanded(text)
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


_COLUMNS = (
    ("text-column", "the column to classify"),
    ("pair-column", "the second text of a pair, such as a hypothesis (none: no second text)"),
    ("label-column", "the column with its label"),
    ("number-column", "the column with a number to predict: a regression"),
    ("prompt-column", "the column with the instruction"),
    ("input-column", "the column with the instruction's input, as in Alpaca (none: no input)"),
    ("system-column", "the column with a system prompt (none: no system prompt)"),
    ("answer-column", "the column with the answer to learn"),
    ("messages-column", "the column with conversations (lists of turns), in place of prompt and answer"),
    ("split-column", "the column that says train, validation or test"),
)
_NUMBERS: tuple[tuple[str, type, str], ...] = (
    ("validation-fraction", float, "share of the rows held out for the curves, where the file has no split (0.15)"),
    ("test-fraction", float, "share held out for the final test, where the file has no split (0.2)"),
    ("split-seed", int, "draws that split (0)"),
    ("max-new-tokens", int, "longest answer that is written (default: the longest in the data)"),
)
NAMES = (
    *(name.replace("-", "_") for name, _ in _COLUMNS),
    *(name.replace("-", "_") for name, _, _ in _NUMBERS),
    "compare",
    "template",
    "drop_missing",
    "metric",
    "metric_from",
    "allow_code_execution",
)


def add_data_arguments(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add ``--data`` (or the positional DATA) and what describes it; unset ones are None."""
    add = parser.add_argument_group("your own data").add_argument
    what = "a CSV, TSV, JSONL, JSON or Parquet file, a folder of split files, or a folder of pictures"
    add("data" if positional else "--data", metavar="PATH", help=what)
    for name, text in _COLUMNS:
        add(f"--{name}", metavar="NAME", help=text)
    for name, kind, text in _NUMBERS:
        add(f"--{name}", type=kind, metavar="N", help=text)
    add("--compare", metavar="HOW", help=f"how answers are compared: {', '.join(COMPARISONS)} (default text)")
    add("--template", metavar="TEXT", help="the prompt around an instruction, with {prompt} in it")
    add("--metric", metavar="NAMES", help="further metrics: of sklearn.metrics (f1_score) or evaluate/NAME")
    add("--metric-from", metavar="FILE.py:NAME", help="a metric of your own: f(predictions, references) -> number")
    add("--allow-code-execution", action="store_true", default=None, help="let the file of --metric-from run here")
    add("--drop-missing", action="store_true", default=None, help="leave out rows that lack a value, and say so")


def task_and_options(args: argparse.Namespace) -> tuple[str | None, dict[str, Any]]:
    """(task, task options) of the flags: ``--data PATH``, ``--task PATH``, or a task of the catalogue.

    Raises CdkaError for flags that describe data without naming any, and for data that cannot be used.
    """
    given = {name: getattr(args, name) for name in NAMES if getattr(args, name, None) is not None}
    task, path = getattr(args, "task", None), args.data
    if path is None and task is not None and task not in TASKS and looks_like_data(task):
        task, path = None, task
    if path is None:
        if given:
            flag = "--" + next(iter(given)).replace("_", "-")
            raise CdkaError(f"{flag} describes your own data: got none. Use --data FILE.")
        return task, {}
    if task is not None and not task.startswith("local-"):
        raise CdkaError(f"--data makes its own task: got --task {task!r} beside it. Leave --task out.")
    from cdka.tasks.files.preview import task_for

    return task_for(path, given, task)
