"""From a file and its options to checked rows in three splits. Free of torch: preview and training share it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdka.errors import CdkaError
from cdka.tasks.files import split as splitting
from cdka.tasks.files.columns import Mapped, label_numbers, map_columns, missing_rows
from cdka.tasks.files.table import LINE, SPLIT, read_table
from cdka.tasks.options import check_known, choice, fraction, switch, whole_number
from cdka.tasks.prompts import INSTRUCTION
from cdka.tasks.rows import SPLITS, Instruction, Labelled

SHARED_OPTIONS = ("data", "sha256", "split_column", "validation_fraction", "test_fraction", "split_seed")
OPTIONS = {
    "local-classify": (*SHARED_OPTIONS, "text_column", "label_column", "drop_missing"),
    "local-instruct": (
        *SHARED_OPTIONS,
        "prompt_column",
        "answer_column",
        "drop_missing",
        "template",
        "compare",
        "max_new_tokens",
    ),
    "local-images": ("data", "sha256", "validation_fraction", "test_fraction", "split_seed"),
}
COMPARISONS = ("text", "number")
"""How an answer of the model is compared: as text with white space made single, or as the number it declares."""


@dataclass(frozen=True)
class Prepared:
    """The rows of each split, ready for a model. ``label_names`` is empty for instructions."""

    task: str
    source: str
    rows: Mapping[str, list[Labelled] | list[Instruction]]
    roles: Mapping[str, str]
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lines: Mapping[int, int] = field(default_factory=dict)
    """The line of the file by the example's number."""


def data_path(options: Mapping[str, Any], task: str) -> Path:
    """The file or folder that the options name. Raises CdkaError where they name none."""
    if not options.get("data"):
        raise CdkaError(f"task {task!r} needs your data. Use --data FILE (a CSV, JSONL or Parquet file, or a folder).")
    return Path(str(options["data"])).expanduser()


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of the names and sizes in a folder: tells whether data are still what they were."""
    sha = hashlib.sha256()
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            sha.update(f"{file.relative_to(path)}:{file.stat().st_size}\n".encode())
    else:
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


def check_unchanged(path: Path, options: Mapping[str, Any]) -> None:
    """Raises CdkaError where the data are not those that the run was planned with."""
    if options.get("sha256") and path.exists() and digest(path) != options["sha256"]:
        raise CdkaError(
            f"{path.name} has changed since this run was planned, so its results would not compare. Put the old data "
            "back, or start a new run."
        )


def prepare(task: str, options: Mapping[str, Any]) -> Prepared:
    """Read, map, check and split the user's table for ``task``. Raises CdkaError with the line and the fix."""
    check_known(options, OPTIONS[task], task)
    path = data_path(options, task)
    check_unchanged(path, options)
    mapped = map_columns(read_table(path), task, options, source=path.name)
    mapped, notes = _without_missing(mapped, task, options, path.name)
    if task == "local-classify":
        labels, names = label_numbers(mapped, path.name)
        texts = [str(text) for text in mapped.values("text_column")]
        every: list[Any] = [Labelled(text, label, i) for i, (text, label) in enumerate(zip(texts, labels, strict=True))]
        strata, keys = labels, texts
    else:
        names, strata = [], None
        keys = [str(prompt) for prompt in mapped.values("prompt_column")]
        every = _instructions(mapped, options, path.name)
    parts, more = _split(mapped, strata, keys, options, path.name)
    rows = {split: [every[row] for row in parts[split]] for split in SPLITS}
    notes += (*more, *_leaks(rows), *_rare(rows, names))
    lines = dict(enumerate(int(line) for line in mapped.table[LINE]))
    return Prepared(task, path.name, rows, mapped.roles, tuple(names), tuple(notes), lines)


def _without_missing(
    mapped: Mapped, task: str, options: Mapping[str, Any], source: str
) -> tuple[Mapped, tuple[str, ...]]:
    absent = missing_rows(mapped, task)
    if not absent.any():
        return mapped, ()
    lines = mapped.table[LINE][absent].tolist()
    where = ", ".join(map(str, lines[:5])) + (" and more" if len(lines) > 5 else "")
    if not switch(options, "drop_missing"):
        raise CdkaError(
            f"{source}: {len(lines)} rows lack a value that is needed (line {where}). Fill them in, or leave them out "
            "with --drop-missing."
        )
    if absent.all():
        raise CdkaError(f"{source}: every row lacks a value that is needed. Choose other columns.")
    kept = Mapped(mapped.table[~absent].reset_index(drop=True), mapped.roles)
    return kept, (f"{len(lines)} rows without a value were left out (line {where}).",)


def _instructions(mapped: Mapped, options: Mapping[str, Any], source: str) -> list[Instruction]:
    from cdka.tasks.answers import final_number, read_text

    template = str(options.get("template", INSTRUCTION))
    if "{prompt}" not in template:
        raise CdkaError(f"a template must contain {{prompt}}: got {template[:60]!r}.")
    read = read_text if choice(options, "compare", COMPARISONS, "text") == "text" else final_number
    rows = []
    prompts, answers = mapped.values("prompt_column"), mapped.values("answer_column")
    for number, (prompt, answer, line) in enumerate(zip(prompts, answers, mapped.table[LINE], strict=True)):
        reference = read(str(answer))
        if reference is None:
            raise CdkaError(
                f"{source}, line {line}: the answer {str(answer)[-40:]!r} declares no number. Compare as text, or end "
                "it with '#### NUMBER'."
            )
        rows.append(Instruction(template.replace("{prompt}", str(prompt)), str(answer), reference, number))
    return rows


def _split(
    mapped: Mapped, strata: list[int] | None, keys: list[str], options: Mapping[str, Any], source: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    lines = mapped.table[LINE].tolist()
    if SPLIT in mapped.table.columns:
        return splitting.complete(splitting.by_column(mapped.table[SPLIT].tolist(), lines, source), strata, source)
    if "split_column" in mapped.roles:
        return splitting.complete(splitting.by_column(mapped.values("split_column"), lines, source), strata, source)
    parts = splitting.at_random(keys, strata, **split_settings(options))
    seed = split_settings(options)["seed"]
    found, notes = splitting.complete(parts, strata, source)
    return found, (f"{source} has no split column: split at random with seed {seed}.", *notes)


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
    def key(row: Labelled | Instruction) -> str:
        return row.text if isinstance(row, Labelled) else row.prompt

    trained = {key(row) for row in rows["train"]}
    shared = sum(key(row) in trained for row in rows["test"])
    return (
        (f"{shared} test examples are in train too, word for word: the test accuracy is flattered.",) if shared else ()
    )


def _rare(rows: Mapping[str, list[Any]], names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    trained = {row.label for row in rows["train"]}
    absent = [name for number, name in enumerate(names) if number not in trained]
    return (f"no training example has the label {', '.join(absent)}.",) if absent else ()
