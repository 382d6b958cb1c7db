"""Public data sets: fetched file by file from the Hub, or read from a local copy of their repository."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cdka.errors import CdkaError
from cdka.models.locate import download_dataset, wait
from cdka.tasks.options import whole_number

if TYPE_CHECKING:
    from datasets import Dataset

    from cdka.runs.spec import RunSpec

SEED = 2602
"""Draws the fixed subsets, the same for every run, whatever its own seed."""


@dataclass(frozen=True)
class Source:
    """One data set of the Hub. ``patterns`` are the files needed, named by their split as the Hub names them
    (``train-00000-of-00001.parquet``); none stands for the whole repository, read as its README says.

    ``option`` is the task option that names a local copy of the repository to read instead, or a folder with a
    Parquet or JSON Lines file per split, or one such file.
    """

    hub_id: str
    patterns: tuple[str, ...]
    option: str = "mirror"

    def where(self, options: Mapping[str, Any]) -> str:
        """The Hub id, or the local copy that the task's options name."""
        return str(options.get(self.option, self.hub_id))


def fetch(sources: Sequence[Source], spec: RunSpec) -> Generator[dict[str, Any], None, None]:
    """Make the sources' files be here; yields the progress. Raises CdkaError, in one line."""
    for source in sources:
        yield from download_dataset(source.where(spec.task_options), source.patterns)


def folder_of(source: Source, spec: RunSpec) -> Path:
    """The folder that holds the source's files, after any download it takes."""
    return wait(download_dataset(source.where(spec.task_options), source.patterns))


def read(source: Source, spec: RunSpec, split: str, columns: Sequence[str]) -> Dataset:
    """One split of a source, checked to have ``columns``. Raises CdkaError where it cannot be read."""
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    disable_progress_bars()
    where = source.where(spec.task_options)
    folder = folder_of(source, spec)
    try:
        if source.patterns:
            files = _files(source, folder, split)
            kind = "parquet" if files[0].suffix == ".parquet" else "json"
            table = load_dataset(kind, data_files={split: [str(file) for file in files]}, split=split)
        else:
            table = load_dataset(str(folder), split=split)
    except (OSError, ValueError, KeyError, DatasetGenerationError, DatasetNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CdkaError(f"data set {where!r}, split {split!r}, cannot be read: {reason}") from error
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise CdkaError(
            f"data set {where!r} must have the columns {', '.join(columns)}: missing {', '.join(absent)}; "
            f"it has {', '.join(table.column_names)}."
        )
    return table


LOCAL_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz")


def _files(source: Source, folder: Path, split: str) -> list[Path]:
    """The files of one split. The README's configurations would name files that were never fetched."""
    if folder.is_file():
        return [folder]
    found = [file for pattern in source.patterns for file in sorted(folder.glob(pattern))]
    if not found:
        found = sorted(file for file in folder.iterdir() if file.name.endswith(LOCAL_ENDINGS))
        if len(found) == 1 and _split_of(found[0]) is None:
            return found
    named = [file for file in found if _split_of(file) == split]
    if not named and split == "train" and len(found) == 1 and _split_of(found[0]) is None:
        named = found
    if not named:
        raise CdkaError(
            f"the data set in {str(folder)!r} has no {split!r} files like {', '.join(source.patterns)}: its layout has "
            "changed, or the copy is not whole."
        )
    return named


def _split_of(file: Path) -> str | None:
    """``train`` for ``train-00000-of-00002.parquet`` and ``train.parquet``; None where the name has no split."""
    stem = file.name.split(".", 1)[0]
    found = re.fullmatch(r"(train|validation|valid|test|prompt)(_\w+)?(-\d+-of-\d+)?", stem)
    return None if found is None else found[1] + (found[2] or "")


def split_names(source: Source, spec: RunSpec) -> list[str]:
    """The splits that a source has."""
    from datasets import get_dataset_split_names

    folder = folder_of(source, spec)
    if not source.patterns:
        return list(get_dataset_split_names(str(folder)))
    files = [file for pattern in source.patterns for file in sorted(folder.glob(pattern))]
    return list(dict.fromkeys(filter(None, map(_split_of, files))))


def subset(total: int, most: int | None, *, seed: int = SEED) -> np.ndarray:
    """Row numbers of a fixed random subset of at most ``most`` rows (None: all, in order)."""
    if most is None or most >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def held_out(total: int, validation: int, most_train: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(train, validation) row numbers: ``validation`` rows drawn from ``total`` at random, the same every time.

    At least half of a small table stays for training.
    """
    order = np.random.default_rng(SEED).permutation(total)
    validation = min(validation, total // 2)
    train = order[validation:] if most_train is None else order[validation : validation + most_train]
    return np.sort(train), np.sort(order[:validation])


def sizes(spec: RunSpec, **defaults: int | None) -> dict[str, int | None]:
    """Numbers of examples to take per split: the options ``train_examples`` and so on, else ``defaults``."""
    return {split: whole_number(spec.task_options, f"{split}_examples", default) for split, default in defaults.items()}
