"""Look at a data file before anything is trained: rows, columns, splits, labels, and the tokens as a model sees them.

Free of torch: what needs a tokenizer runs in a process of its own (``token_preview``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdka import childproc
from cdka.paths import expanded, pasted
from cdka.tasks.files.columns import suggest
from cdka.tasks.files.digest import digest
from cdka.tasks.files.picture_tables import has_texts, holds_pictures
from cdka.tasks.files.picture_texts import NAME as IMAGE_TEXT
from cdka.tasks.files.picture_texts import OPTIONS as IMAGE_TEXT_OPTIONS
from cdka.tasks.files.picture_texts import read_rows
from cdka.tasks.files.pictures import prepare_pictures
from cdka.tasks.files.prepare import COMPARISONS, OPTIONS, Prepared, data_path, load_table, prepare
from cdka.tasks.files.text import OPTIONS as TEXT_OPTIONS
from cdka.tasks.files.text import is_text, read_passages, read_text_rows
from cdka.tasks.options import check_known
from cdka.tasks.own_metric import check_metric
from cdka.tasks.rows import SPLITS, Instruction, Measured

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

LIMIT_S = 120.0
DATA_OPTIONS = tuple(
    dict.fromkeys(
        name
        for names in (*OPTIONS.values(), TEXT_OPTIONS, IMAGE_TEXT_OPTIONS)
        for name in names
        if name not in ("data", "sha256")
    )
)
"""Every option that describes data of the user's own."""


@dataclass(frozen=True)
class Preview:
    """The content of a file, and what training makes of it.

    ``lengths`` are characters, split by split; ``examples`` counts the rows of each split; ``labels`` counts the rows
    of each label, by split (empty but for classifications); ``first`` is the first training example, field by field,
    as a model will get it; ``unused`` are the columns that play no role.
    """

    task: str
    columns: tuple[str, ...]
    roles: Mapping[str, str]
    head: pd.DataFrame
    examples: Mapping[str, int]
    labels: pd.DataFrame
    lengths: Mapping[str, list[int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    first: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def task_for(path: str, given: Mapping[str, Any], task: str | None = None) -> tuple[str, dict[str, Any]]:
    """(task name, task options) for ``path`` and the options that the user has given, the rest guessed.

    The options hold everything that repeating the run takes, the digest of the data included. ``task`` is the
    user's choice where one was made. Raises CdkaError where the columns are not clear, or the data cannot be read.
    """
    options = {key: value for key, value in given.items() if value is not None}
    place = data_path({"data": path}, task or "local").resolve()
    options["data"] = str(expanded(pasted(path)).resolve())
    options.update(check_metric(options))
    if place.is_dir() and (task == IMAGE_TEXT or (task is None and has_texts(place))):
        check_known(options, IMAGE_TEXT_OPTIONS, IMAGE_TEXT)
        read_rows(options)
        return IMAGE_TEXT, {**options, "sha256": digest(place)}
    if place.is_dir() and holds_pictures(place):
        task = task or "local-images"
        prepare_pictures(options)
        return task, {**options, "sha256": digest(place)}
    if task == "local-text" or (task is None and place.exists() and is_text(place)):
        check_known(options, TEXT_OPTIONS, "local-text")
        read_passages(place, options)
        return "local-text", {**options, "sha256": digest(place)}
    table = load_table(place)
    task = task or suggest(table, options)
    prepared = prepare(task, options)
    return task, {**options, **prepared.roles, "sha256": digest(place)}


def preview(task: str, options: Mapping[str, Any], *, rows: int = 20) -> Preview:
    """The rows as training on the file would see them; no model is needed. Raises CdkaError as ``prepare`` does."""
    if task == "local-images":
        return _preview_pictures(options, rows)
    if task == IMAGE_TEXT:
        return _preview_image_text(options, rows)
    if task == "local-text":
        return _preview_text(options, rows)
    prepared = prepare(task, options)
    table = load_table(data_path(options, task))
    return Preview(
        task=task,
        columns=tuple(table.names),
        roles=prepared.roles,
        head=table.head(rows),
        examples={split: len(prepared.rows[split]) for split in SPLITS},
        labels=_label_counts(prepared),
        lengths={split: [_characters(row) for row in prepared.rows[split]] for split in SPLITS},
        notes=prepared.notes,
        first=_fields(prepared, prepared.rows["train"][0]),
        unused=prepared.unused,
    )


def _fields(prepared: Prepared, row: Any) -> dict[str, str]:
    """A row as a model gets it, by the names of its fields."""
    if isinstance(row, Instruction):
        turns = {f"{turn.role} (turn {i})": turn.content for i, turn in enumerate(row.messages, start=1)}
        return {**turns, "prompt": row.prompt, "answer": row.answer}
    pair = {} if row.pair is None else {"second text": row.pair}
    target = {"number": f"{row.value:g}"} if isinstance(row, Measured) else {"label": prepared.label_names[row.label]}
    return {"text": row.text, **pair, **target}


def _characters(row: Any) -> int:
    if isinstance(row, Instruction):
        return len(row.prompt) + len(row.answer)
    return len(row.text) + len(row.pair or "")


def histogram(lengths: Sequence[int], bins: int = 12) -> list[tuple[int, int, int]]:
    """(shortest, longest, how many) for up to ``bins`` equal ranges of lengths, both ends belonging to the range."""
    if not lengths:
        return []
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // bins))
    counts = Counter((length - low) // width for length in lengths)
    return [
        (low + i * width, min(high, low + (i + 1) * width - 1), counts[i]) for i in range((high - low) // width + 1)
    ]


def _label_counts(prepared: Prepared) -> pd.DataFrame:
    if not prepared.label_names:
        return pd.DataFrame()
    counts = {split: Counter(prepared.label_names[row.label] for row in prepared.rows[split]) for split in SPLITS}
    return pd.DataFrame(counts, index=list(prepared.label_names)).fillna(0).astype(int)


def _preview_pictures(options: Mapping[str, Any], rows: int) -> Preview:
    found = prepare_pictures(options)
    labelled = [(str(file), found.label_names[label]) for file, label in zip(found.files, found.labels, strict=True)]
    counts = {split: Counter(labelled[i][1] for i in found.parts[split]) for split in SPLITS}
    return Preview(
        task="local-images",
        columns=("file", "label"),
        roles={},
        notes=found.notes,
        head=pd.DataFrame(labelled[:rows], columns=["file", "label"]),
        examples={split: len(found.parts[split]) for split in SPLITS},
        labels=pd.DataFrame(counts, index=list(found.label_names)).fillna(0).astype(int),
    )


def _preview_image_text(options: Mapping[str, Any], rows: int) -> Preview:
    found = read_rows(options)
    every = sorted((row for split in SPLITS for row in found.splits[split]), key=lambda row: row.id)
    first = found.splits["train"][0]
    return Preview(
        task=IMAGE_TEXT,
        columns=("prompt", "answer"),
        roles={},
        head=pd.DataFrame([(row.prompt, row.answer) for row in every[:rows]], columns=["prompt", "answer"]),
        examples={split: len(found.splits[split]) for split in SPLITS},
        labels=pd.DataFrame(),
        lengths={split: [len(row.prompt) + len(row.answer) for row in found.splits[split]] for split in SPLITS},
        notes=found.notes,
        first={"prompt": first.prompt, "answer": first.answer},
    )


def _preview_text(options: Mapping[str, Any], rows: int) -> Preview:
    found = read_text_rows(options)
    every = [passage for split in SPLITS for passage in found.splits[split]]
    return Preview(
        task="local-text",
        columns=("text",),
        roles={},
        head=pd.DataFrame({"text": every[:rows]}),
        examples={split: len(found.splits[split]) for split in SPLITS},
        labels=pd.DataFrame(),
        lengths={split: [len(passage) for passage in found.splits[split]] for split in SPLITS},
        notes=found.notes,
        first={"text": found.splits["train"][0]},
    )


def token_preview(spec: RunSpec, *, examples: int = 4) -> dict[str, Any]:
    """The first training batch as tokens, and how long the examples are, for the run's model and ``max_length``.

    ``{"kind", "max_length", "batch": [{"tokens": [...], "judged": [bool, ...]}], "lengths": {split: [...]},
    "longer": {split: n}, "notes": [...]}``: ``judged`` tells which tokens the loss counts; ``lengths`` are in tokens
    before any cut. Runs in a process of its own and takes some seconds. Raises CdkaError.
    """
    return childproc.call(
        "cdka.train.data.token_preview:token_view",
        {"spec": spec.to_dict(), "examples": examples},
        limit_s=LIMIT_S,
        failure=f"the tokens of {spec.model!r} could not be shown",
    )


__all__ = ["COMPARISONS", "Preview", "histogram", "preview", "task_for", "token_preview"]
