"""The flags that name the user's own data and its columns, shared by the commands that take a task."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.paths import pasted
from cdka.tasks.catalogue import TASKS
from cdka.tasks.files.instructions import COMPARISONS
from cdka.tasks.files.table import format_of

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
    add("--metric", metavar="NAMES", help="further metrics, functions of sklearn.metrics: cohen_kappa_score,f1_score")
    add("--metric-from", metavar="FILE.py:NAME", help="a metric of your own: f(predictions, references) -> number")
    add("--allow-code-execution", action="store_true", default=None, help="let the file of --metric-from run here")
    add("--drop-missing", action="store_true", default=None, help="leave out rows that lack a value, and say so")


def task_and_options(args: argparse.Namespace) -> tuple[str | None, dict[str, Any]]:
    """(task, task options) of the flags: ``--data PATH``, ``--task PATH``, or a task of the catalogue.

    Raises CdkaError for flags that describe data without naming any, and for data that cannot be used.
    """
    given = {name: getattr(args, name) for name in NAMES if getattr(args, name, None) is not None}
    task, path = getattr(args, "task", None), args.data
    if path is None and task is not None and task not in TASKS and _looks_like_data(task):
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


def _looks_like_data(text: str) -> bool:
    path = Path(pasted(text))
    return format_of(path) is not None or path.expanduser().exists()
