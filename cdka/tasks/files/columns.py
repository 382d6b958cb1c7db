"""Which column means what: guessed from names, or said by the user, then checked row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cdka.errors import CdkaError, unknown
from cdka.tasks.files.table import LINE, SPLIT

ROLES = {
    "local-classify": ("text_column", "label_column"),
    "local-instruct": ("prompt_column", "answer_column"),
}
"""The columns that each task needs, as task options."""
_USUAL = {
    "text_column": ("text", "sentence", "review", "content", "body", "comment", "message", "document", "input"),
    "label_column": ("label", "labels", "class", "category", "target", "sentiment", "intent", "tag"),
    "prompt_column": ("prompt", "instruction", "question", "query", "input", "problem"),
    "answer_column": ("answer", "response", "output", "completion", "target", "solution", "reply"),
    "split_column": ("split", "partition", "fold"),
}
MOST_LABELS = 1000


@dataclass(frozen=True)
class Mapped:
    """A table with its columns told apart. ``roles`` maps each role (``text_column`` ...) to a column's name."""

    table: pd.DataFrame
    roles: Mapping[str, str]

    def values(self, role: str) -> list[Any]:
        """The column that plays ``role``, row by row."""
        return self.table[self.roles[role]].tolist()


def visible_columns(table: pd.DataFrame) -> list[str]:
    """The columns of the user's own."""
    return [name for name in table.columns if name not in (LINE, SPLIT)]


def guess(table: pd.DataFrame, role: str, taken: Sequence[str] = ()) -> str | None:
    """The column whose name says that it plays ``role``; None where no name does."""
    by_folded = {name.strip().casefold(): name for name in visible_columns(table) if name not in taken}
    return next((by_folded[usual] for usual in _USUAL[role] if usual in by_folded), None)


def suggest(table: pd.DataFrame) -> tuple[str, dict[str, str]]:
    """(task name, roles) that fit the table best: what the Studio and the flags start from.

    Raises CdkaError where neither task's columns can be told by their names.
    """
    for task in ("local-instruct", "local-classify"):
        roles: dict[str, str] = {}
        for role in ROLES[task]:
            found = guess(table, role, tuple(roles.values()))
            if found is not None:
                roles[role] = found
        if len(roles) == len(ROLES[task]):
            return task, roles
    raise CdkaError(
        "the columns must be told: none are called text and label, or prompt and answer; the file has "
        f"{', '.join(visible_columns(table))}. Use --text-column and --label-column, or --prompt-column and "
        "--answer-column."
    )


def map_columns(table: pd.DataFrame, task: str, options: Mapping[str, Any], *, source: str = "the file") -> Mapped:
    """The table with the task's columns found: as the options say, else by their usual names.

    Rows where one of them is empty are an error that names the first lines, unless the option ``drop_missing`` is
    set. Raises CdkaError for a column that is not there or cannot play its role.
    """
    roles: dict[str, str] = {}
    columns = visible_columns(table)
    for role in (*ROLES[task], "split_column"):
        given = options.get(role)
        if given is not None and str(given) not in columns:
            raise unknown("column", str(given), columns, where=f"in {source}", next_step=_flag(role))
        found = str(given) if given is not None else guess(table, role, tuple(roles.values()))
        if found is not None:
            roles[role] = found
        elif role != "split_column":
            raise CdkaError(
                f"the {role.removesuffix('_column')} column must be told: {source} has {', '.join(columns)}. "
                f"{_flag(role)}"
            )
    needed = [roles[role] for role in ROLES[task]]
    if len(set(needed)) < len(needed):
        raise CdkaError(f"two roles cannot be played by one column: got {needed[0]!r} twice for {source}.")
    return Mapped(table, roles)


def missing_rows(mapped: Mapped, task: str) -> pd.Series:
    """(n,) True where a column that the task needs is empty."""
    absent = pd.Series(False, index=mapped.table.index)
    for role in ROLES[task]:
        values = mapped.table[mapped.roles[role]]
        absent |= values.map(
            lambda value: (
                value is None
                or (isinstance(value, float) and value != value)
                or (isinstance(value, str) and not value.strip())
            )
        )
    return absent


def label_numbers(mapped: Mapped, source: str = "the file") -> tuple[list[int], list[str]]:
    """(the number of each row's label, the labels' names in order). Numbers sort as numbers, words as words.

    Raises CdkaError for a column that holds one label only, measurements, or more than 1,000 labels.
    """
    values = mapped.values("label_column")
    column = mapped.roles["label_column"]
    for value, line in zip(values, mapped.table[LINE], strict=True):
        if not isinstance(value, str | int | bool) and not (isinstance(value, float) and value.is_integer()):
            raise CdkaError(
                f"{source}, line {line}: a label is a word or a whole number: got {value!r} in {column!r}. Choose "
                "another label column."
            )
    words = [str(int(value)) if isinstance(value, float) else str(value).strip() for value in values]
    names = sorted(set(words), key=lambda word: (0, int(word), "") if word.lstrip("-").isdecimal() else (1, 0, word))
    if len(names) < 2:
        raise CdkaError(f"column {column!r} of {source} holds one label only ({names[0]!r}). Two or more are needed.")
    if len(names) > MOST_LABELS or (len(names) > 20 and len(names) > len(words) / 2):
        raise CdkaError(
            f"column {column!r} of {source} holds {len(names)} labels in {len(words)} rows: it is no label column. "
            "Choose another with --label-column."
        )
    numbers = {name: number for number, name in enumerate(names)}
    return [numbers[word] for word in words], names


def _flag(role: str) -> str:
    return f"Use --{role.replace('_', '-')} NAME."
