"""From a file and its options to checked rows in three splits. Free of torch: preview and training share it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.paths import expanded, pasted
from cdka.tasks.files import split as splitting
from cdka.tasks.files.columns import MESSAGES, PAIR, TASK_ROLES, TEXT, find_columns, roles_for, unused
from cdka.tasks.files.digest import check_unchanged, stamp
from cdka.tasks.files.folder import read_table
from cdka.tasks.files.instructions import COMPARISONS, read_conversations, read_instructions
from cdka.tasks.files.table import Table
from cdka.tasks.files.unpack import unpacked
from cdka.tasks.files.values import are_numbers, in_order, labels_of, numbers_of, texts_of
from cdka.tasks.options import check_known, fraction, switch, whole_number
from cdka.tasks.own_metric import OPTIONS as METRIC_OPTIONS
from cdka.tasks.rows import SPLITS, Instruction, Labelled, Measured

SPLIT_OPTIONS = ("split_column", "validation_fraction", "test_fraction", "split_seed")
SHARED_OPTIONS = ("data", "sha256", *SPLIT_OPTIONS, "drop_missing", *METRIC_OPTIONS)
OPTIONS = {
    **{task: (*SHARED_OPTIONS, *(role.option for role in roles)) for task, roles in TASK_ROLES.items()},
    "local-images": ("data", "sha256", *SPLIT_OPTIONS[1:], *METRIC_OPTIONS),
}
OPTIONS["local-instruct"] += (MESSAGES.option, "template", "compare", "max_new_tokens")
MAX_LABELS = 1000


@dataclass(frozen=True)
class Prepared:
    """The rows of each split, ready for a model. ``label_names`` is empty but for a classification.

    ``lines`` holds the line of the file by the example's number; ``unused`` the columns that play no role.
    """

    task: str
    source: str
    rows: Mapping[str, list[Labelled] | list[Measured] | list[Instruction]]
    roles: Mapping[str, str]
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lines: Mapping[int, int] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def data_path(options: Mapping[str, Any], task: str) -> Path:
    """The file or folder that the options name, an archive unpacked.

    Raises CdkaError where they name none, or an address of the web.
    """
    if not options.get("data"):
        raise CdkaError(f"task {task!r} needs your data. Use --data FILE (a CSV, JSONL or Parquet file, or a folder).")
    text = str(options["data"])
    if re.match(r"\W*https?://", text):
        raise CdkaError(
            f"data must lie on this machine: got {text.strip()[:80]!r}. Download them, and give the path of the "
            "file or folder."
        )
    return unpacked(expanded(pasted(text)))


def load_table(path: Path) -> Table:
    """The table at ``path``, read once while its files stay as they are. Raises CdkaError as ``read_table``."""
    return _table(path, stamp(path) if path.exists() else ())


@lru_cache(maxsize=2)
def _table(path: Path, _stamp: tuple) -> Table:
    return read_table(path)


def prepare(task: str, options: Mapping[str, Any]) -> Prepared:
    """Read, map, check and split the user's table for ``task``. Raises CdkaError with the line and the fix.

    The answer is kept while the files stay as they are, so that preview, launch and training read them once.
    """
    check_known(options, OPTIONS[task], task)
    path = data_path(options, task)
    check_unchanged(path, options)
    settings = {key: value for key, value in options.items() if key not in ("data", "sha256", *METRIC_OPTIONS)}
    key = json.dumps(settings, sort_keys=True, default=str)
    return _prepared(task, path, key, stamp(path) if path.exists() else ())


@lru_cache(maxsize=4)
def _prepared(task: str, path: Path, settings: str, _stamp: tuple) -> Prepared:
    options = json.loads(settings)
    table = load_table(path)
    roles = find_columns(table, task, options)
    table, notes = _without_unlabelled(table, task, roles)
    table, more = _without_missing(table, task, roles, options)
    left_out = unused(table, roles)
    notes = (*table.notes, *notes, *more)
    if left_out:
        notes += (
            f"not used: {plural(len(left_out), 'column')} ({', '.join(left_out[:8])}{', ...' * (len(left_out) > 8)}).",
        )
    names: tuple[str, ...] = ()
    strata: list[int] | None = None
    if task == "local-classify":
        every, names = _labelled(table, roles)
        strata = [row.label for row in every]
        keys = [(row.text, row.pair) for row in every]
    elif task == "local-regress":
        every = _measured(table, roles)
        keys = [(row.text, row.pair) for row in every]
    elif MESSAGES.option in roles:
        every, origins, remarks = read_conversations(table, roles, options)
        table, notes = table.take(origins), (*notes, *remarks)
        keys = [next(turn.content for turn in row.messages if turn.role == "user") for row in every]
    else:
        every = read_instructions(table, roles, options)
        keys = [row.prompt for row in every]
    parts, remarks = _split(table, roles, strata, keys, options)
    rows = {split: [every[row] for row in parts[split]] for split in SPLITS}
    notes += (*remarks, *_leaks(rows))
    if names:
        notes += splitting.label_notes({split: [row.label for row in part] for split, part in rows.items()}, names)
    return Prepared(task, path.name, rows, roles, names, notes, dict(enumerate(table.lines)), tuple(left_out))


def _without_unlabelled(table: Table, task: str, roles: Mapping[str, str]) -> tuple[Table, tuple[str, ...]]:
    """The table without validation or test splits that hold no labels: all empty or, as GLUE writes it, all -1."""
    target = {"local-classify": "label_column", "local-regress": "number_column", "local-instruct": "answer_column"}
    column = roles.get(target.get(task, ""))
    if column is None:
        return table, ()
    splits = table.splits
    if splits is None and "split_column" in roles:
        splits = [
            splitting.NAMES.get(str(name).strip().casefold(), "train") for name in table.columns[roles["split_column"]]
        ]
    if splits is None:
        return table, ()
    absent = (None, "-1", -1) if task == "local-classify" else (None,)
    dropped, notes = set(), []
    for split in ("validation", "test"):
        values = [value for value, of in zip(table.columns[column], splits, strict=True) if of == split]
        if values and all(value in absent for value in values):
            dropped.add(split)
            notes.append(f"the {plural(len(values), f'{split} row')} have no {target[task].split('_')[0]}: set aside.")
    kept = [row for row, split in enumerate(splits) if split not in dropped]
    return (table.take(kept) if dropped else table), tuple(notes)


def _without_missing(
    table: Table, task: str, roles: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[Table, tuple[str, ...]]:
    needed = [role.option for role in roles_for(task, table, roles) if not role.optional]
    columns = [table.columns[roles[option]] for option in needed]
    absent = [row for row in range(len(table)) if any(values[row] is None for values in columns)]
    if not absent:
        return table, ()
    lines = [table.lines[row] for row in absent]
    several = len(set(table.files)) > 1
    where = ", ".join(table.place(row) if several else str(table.lines[row]) for row in absent[:5])
    where = ("" if several else "line ") + where + (" and more" if len(lines) > 5 else "")
    if not switch(options, "drop_missing"):
        _check_files_have(table, needed, roles)
        raise CdkaError(
            f"{table.source}: {plural(len(lines), 'row')} without a value that is needed ({where}). Fill in what "
            "is missing, or leave such rows out with --drop-missing."
        )
    if len(absent) == len(table):
        raise CdkaError(f"{table.source}: every row lacks a value that is needed. Choose other columns.")
    gone = set(absent)
    kept = table.take([row for row in range(len(table)) if row not in gone])
    return kept, (f"left out: {plural(len(lines), 'row')} without a value ({where}).",)


def _check_files_have(table: Table, needed: Sequence[str], roles: Mapping[str, str]) -> None:
    """Raises CdkaError for a file of several in which a needed column is missing or empty throughout."""
    for file in dict.fromkeys(table.files):
        rows = [row for row, of in enumerate(table.files) if of == file]
        empty = [roles[option] for option in needed if all(table.columns[roles[option]][row] is None for row in rows)]
        if empty and len(rows) < len(table):
            raise CdkaError(
                f"{file} has no values in column {empty[0]!r}, which is needed. Give its columns the names that they "
                "have in the other files, or take the file out."
            )


def _texts(table: Table, roles: Mapping[str, str]) -> list[tuple[str, str | None]]:
    texts = texts_of(roles[TEXT.option], table.columns[roles[TEXT.option]], table.place)
    if PAIR.option not in roles:
        return [(text, None) for text in texts]
    pairs = texts_of(roles[PAIR.option], table.columns[roles[PAIR.option]], table.place)
    return [(text, pair or "") for text, pair in zip(texts, pairs, strict=True)]


def _labelled(table: Table, roles: Mapping[str, str]) -> tuple[list[Labelled], tuple[str, ...]]:
    """(rows, label names): the names sort as numbers where they are numbers, else as words."""
    column, source = roles["label_column"], table.source
    words = labels_of(column, table.columns[column], table.place)
    names = in_order(words)
    if len(names) < 2:
        raise CdkaError(f"column {column!r} of {source} holds one label only ({names[0]!r}). Two or more are needed.")
    if len(names) > MAX_LABELS or (len(names) > 20 and len(names) > len(words) / 2):
        hint = f", or --number-column {column} to predict the number" if are_numbers(table.columns[column]) else ""
        raise CdkaError(
            f"column {column!r} of {source} holds {len(names)} labels in {len(words)} rows: it is no label column. "
            f"Choose another with --label-column{hint}."
        )
    numbers = {name: number for number, name in enumerate(names)}
    rows = [
        Labelled(text, numbers[word], i, pair)
        for i, ((text, pair), word) in enumerate(zip(_texts(table, roles), words, strict=True))
    ]
    return rows, tuple(names)


def _measured(table: Table, roles: Mapping[str, str]) -> list[Measured]:
    column = roles["number_column"]
    values = numbers_of(column, table.columns[column], table.place)
    if len(set(values)) < 2:
        raise CdkaError(f"column {column!r} of {table.source} holds one number only ({values[0]:g}). Choose another.")
    return [
        Measured(text, value, i, pair)
        for i, ((text, pair), value) in enumerate(zip(_texts(table, roles), values, strict=True))
    ]


def _split(
    table: Table,
    roles: Mapping[str, str],
    strata: list[int] | None,
    keys: Sequence[Any],
    options: Mapping[str, Any],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    named = table.splits
    if named is None and "split_column" in roles:
        named = table.columns[roles["split_column"]]
    if named is not None:
        return splitting.complete(splitting.by_name(named, table.place), strata, table.source, keys)
    settings = split_settings(options)
    found, notes = splitting.complete(splitting.at_random(keys, strata, **settings), strata, table.source, keys)
    return found, (f"{table.source} has no split column: split at random with seed {settings['seed']}.", *notes)


def split_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The shares and the seed of a random split. Raises CdkaError for shares that leave nothing to train on."""
    validation = fraction(options, "validation_fraction", splitting.VALIDATION)
    test = fraction(options, "test_fraction", splitting.TEST)
    if validation + test >= 0.9:
        raise CdkaError(
            f"validation_fraction and test_fraction must leave a tenth to train on: got {validation} and {test}."
        )
    return {
        "validation": validation,
        "test": test,
        "seed": whole_number(options, "split_seed", splitting.SEED, least=0),
    }


def _leaks(rows: Mapping[str, list[Any]]) -> tuple[str, ...]:
    def key(row: Labelled | Measured | Instruction) -> Any:
        return (row.prompt, row.messages) if isinstance(row, Instruction) else (row.text, row.pair)

    trained = {key(row) for row in rows["train"]}
    shared = sum(key(row) in trained for row in rows["test"])
    return (
        (f"{shared} test examples are in train too, word for word: the test accuracy is flattered.",) if shared else ()
    )


__all__ = ["COMPARISONS", "OPTIONS", "Prepared", "data_path", "load_table", "prepare", "split_settings"]
