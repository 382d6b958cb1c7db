"""Split examples into train, validation and test: by the file's own split, else at random by a seed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from cdka.errors import CdkaError
from cdka.tasks.rows import SPLITS

NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(rf"(?:^|[-._ ])({'|'.join(NAMES)})(?=$|[-._ \d])")
SEED, VALIDATION, TEST = 0, 0.15, 0.2
RULING_SHARE = 0.9
"""From this share of the examples on, one label dominates: always predicting it looks like success."""
_LISTED = 5


def split_named(name: str) -> str | None:
    """The split that a file or folder is named after (``train-00000-of-00002``, ``my_test``), if it is just one."""
    found = {NAMES[word] for word in _WORD.findall(name.casefold())}
    return found.pop() if len(found) == 1 else None


def read_names(names: Sequence[Any], place: Callable[[int], str]) -> list[str]:
    """The split of each row, from its name. Raises CdkaError, with the line, for a name that is none."""
    found = []
    for row, name in enumerate(names):
        split = NAMES.get(str(name).strip().casefold())
        if split is None:
            raise CdkaError(f"{place(row)}: split {name!r} must be train, validation or test.")
        found.append(split)
    return found


def by_name(names: Sequence[Any], place: Callable[[int], str]) -> dict[str, np.ndarray]:
    """Row numbers by split, from each row's split name. Raises CdkaError as ``read_names``."""
    found: dict[str, list[int]] = {split: [] for split in SPLITS}
    for row, split in enumerate(read_names(names, place)):
        found[split].append(row)
    return {split: np.array(rows, dtype=np.int64) for split, rows in found.items()}


def at_random(
    groups: Sequence[Hashable], strata: Sequence[Hashable] | None, *, validation: float, test: float, seed: int
) -> dict[str, np.ndarray]:
    """Row numbers by split: shares of the rows, stratified, the same for the same seed.

    Rows of one group (the same text twice) stay together, so that no test example has been trained on. Raises
    CdkaError where a split would be empty.
    """
    rng = np.random.default_rng(seed)
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    layers: dict[Hashable, list[Hashable]] = {}
    for group, rows in members.items():
        layers.setdefault(strata[rows[0]] if strata is not None else None, []).append(group)
    found: dict[str, list[int]] = {split: [] for split in SPLITS}
    owed = {"validation": 0.0, "test": 0.0}
    for layer in sorted(layers, key=str):
        order = [layers[layer][i] for i in rng.permutation(len(layers[layer]))]
        # What rounding takes from one stratum is given to the next, so that the shares come out over all of them.
        taken, room = {}, max(0, len(order) - 1)
        for split, share in (("test", test), ("validation", validation)):
            owed[split] += share * len(order)
            taken[split] = min(int(owed[split] + 1e-9), room)
            owed[split] -= taken[split]
            room -= taken[split]
        first, second = taken["test"], taken["test"] + taken["validation"]
        for split, part in (("test", order[:first]), ("validation", order[first:second]), ("train", order[second:])):
            found[split] += [row for group in part for row in members[group]]
    return {split: np.sort(np.array(rows, dtype=np.int64)) for split, rows in found.items()}


def complete(
    parts: Mapping[str, np.ndarray],
    strata: Sequence[Hashable] | None,
    source: str,
    groups: Sequence[Hashable] | None = None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The splits with what is missing taken from the others, and notes that say so.

    Without a validation split one is held out of train, rows of one group together; without a test split the
    validation split is halved. Raises CdkaError where nothing is left to train or to judge on.
    """
    found = {split: np.asarray(parts.get(split, ()), dtype=np.int64) for split in SPLITS}
    notes = []
    if not len(found["validation"]) and len(found["train"]):
        rows = found["train"]
        chosen = at_random(
            rows.tolist() if groups is None else [groups[row] for row in rows],
            None if strata is None else [strata[row] for row in rows],
            validation=VALIDATION,
            test=0.0,
            seed=SEED,
        )
        found["train"], found["validation"] = rows[chosen["train"]], rows[chosen["validation"]]
        notes.append(f"{source} has no validation split: {VALIDATION:.0%} of train were held out.")
    if not len(found["test"]) and len(found["validation"]) > 1:
        order = np.random.default_rng(SEED).permutation(found["validation"])
        half = len(order) // 2
        found["test"], found["validation"] = np.sort(order[:half]), np.sort(order[half:])
        notes.append(f"{source} has no test split: half of validation was set aside for it.")
    for split in SPLITS:
        if not len(found[split]):
            raise CdkaError(
                f"{source} leaves no {split} examples ({sum(map(len, found.values()))} rows in all). Add rows, or "
                "change validation_fraction and test_fraction."
            )
    return found, tuple(notes)


def label_notes(labels: Mapping[str, Sequence[int]], names: Sequence[str]) -> tuple[str, ...]:
    """Notes on the labels (numbers, by split) called ``names``: likely mistakes, and what makes a score mislead."""
    return (*_doubtful(labels, names), *_absent(labels, names), *_ruling(labels["train"], names))


def _doubtful(labels: Mapping[str, Sequence[int]], names: Sequence[str]) -> list[str]:
    """Notes on labels that differ in case alone, that stand for none, and that only one example has."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    twins = [" and ".join(map(repr, group)) for group in folded.values() if len(group) > 1]
    notes = [f"labels that differ in case alone are told apart: {', '.join(twins[:_LISTED])}."] if twins else []
    counts = Counter(names[label] for part in labels.values() for label in part)
    if "-1" in counts and "0" in counts:
        notes.append(
            f"{counts['-1']} of {sum(counts.values())} examples have the label -1, a class like any other here. Where "
            "it means that a label is missing, take these rows out."
        )
    single = [name for name in names if counts[name] == 1]
    if single and len(single) < len(names):
        more = " and more" if len(single) > _LISTED else ""
        listed = ", ".join(map(repr, single[:_LISTED]))
        notes.append(f"only one example has the label {listed}{more}: a typing error, or too few to learn from.")
    return notes


def _absent(labels: Mapping[str, Sequence[int]], names: Sequence[str]) -> list[str]:
    """A note for each split whose labels no training example has: no model can learn to give them."""
    trained = set(labels["train"])
    notes = []
    for split in ("validation", "test"):
        strange = Counter(names[label] for label in labels[split] if label not in trained)
        if strange:
            notes.append(
                f"{sum(strange.values())} of {len(labels[split])} {split} examples cannot be answered right: no "
                f"training example has the label {', '.join(strange)}."
            )
    return notes


def _ruling(trained: Sequence[int], names: Sequence[str]) -> list[str]:
    label, number = Counter(trained).most_common(1)[0]
    share = number / len(trained)
    if share < RULING_SHARE:
        return []
    return [
        f"{share:.1%} of the training examples are {names[label]!r}: always saying so has about that accuracy. Read "
        "balanced_accuracy and macro_f1 beside it."
    ]
