"""Guidelines that pick one option for a reason, the paper's first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cdka.errors import unknown
from cdka.solver.feasible import Columns


@dataclass(frozen=True)
class Preset:
    """A guideline: its name, short and in full, what it does, why one would follow it, and whose it is."""

    name: str
    short: str
    title: str
    explanation: str
    source: str
    choose: Callable[[Columns], np.ndarray]
    """The rows that follow the guideline, best first."""


def _family(r1: int, r2: int) -> Callable[[Columns], np.ndarray]:
    def choose(columns: Columns) -> np.ndarray:
        rows = np.flatnonzero((columns.r1 == r1) & (columns.r2 == r2))
        return rows[np.argsort(-columns.r[rows], kind="stable")]

    return choose


def _by(*keys: str, near_best: float | None = None) -> Callable[[Columns], np.ndarray]:
    """Rows ordered by ``keys`` (``-x`` means more is better), among those near the best alignment if asked."""

    def choose(columns: Columns) -> np.ndarray:
        least = 0.0 if near_best is None else near_best * columns.alignment.max()
        rows = np.flatnonzero(columns.alignment >= least)
        by = [(-1 if key[0] == "-" else 1) * getattr(columns, key.lstrip("-"))[rows] for key in reversed(keys)]
        return rows[np.lexsort(by)]

    return choose


def _four_to_one(columns: Columns) -> np.ndarray:
    rows = np.flatnonzero(columns.r2 == 4 * columns.r1)
    rows = rows[columns.alignment[rows] >= 0.9 * columns.alignment[rows].max()] if len(rows) else rows
    return rows[np.lexsort((columns.flops_per_token[rows], -columns.rank_bound[rows]))]


NEAR = 0.9
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "paper",
            "paper",
            "Paper default",
            "(2, 8) with as many components as fit. At r2/r1 = 4 alignment per parameter has nearly saturated, and the "
            "rest of the budget goes into more components; 2,8,4 with alpha = 64 is the paper's default.",
            "paper",
            _family(2, 8),
        ),
        Preset(
            "paper-math",
            "paper, math",
            "Paper, mathematical reasoning",
            "(2, 2) with as many components as fit: what the paper used for its mathematical reasoning runs "
            "(2, 2, 8, alpha = 64).",
            "paper",
            _family(2, 2),
        ),
        Preset(
            "lora",
            "LoRA",
            "LoRA baseline",
            "(1, 1, r) is LoRA of rank r with rsLoRA scaling: the comparison at equal budget.",
            "paper",
            _family(1, 1),
        ),
        Preset(
            "alignment",
            "best alignment",
            "Best alignment",
            "The highest expected alignment with full fine-tuning. It tends to a large r2 with few "
            "components; best where training is short.",
            "ours",
            _by("-alignment", "flops_per_token", "-rank_bound"),
        ),
        Preset(
            "rank",
            "highest rank",
            "Highest rank",
            "The highest rank bound among options within 10 % of the best alignment. Best where training is long "
            "and the final update must be rich; a large r1 costs FLOPs.",
            "ours",
            _by("-rank_bound", "-alignment", "flops_per_token", near_best=NEAR),
        ),
        Preset(
            "four-to-one",
            "r2 = 4 r1",
            "Four to one",
            "r2 = 4 r1, where alignment per parameter has nearly saturated, with the highest rank bound within 10 % of "
            "the best alignment at that ratio.",
            "ours",
            _four_to_one,
        ),
        Preset(
            "light",
            "least arithmetic",
            "Least arithmetic",
            "The fewest extra FLOPs among options within 10 % of the best alignment.",
            "ours",
            _by("flops_per_token", "-alignment", "-rank_bound", near_best=NEAR),
        ),
    )
}


def preset_rows(columns: Columns) -> dict[str, int]:
    """The row that each preset picks; presets that nothing follows under this budget are left out."""
    picked = {}
    for name, preset in PRESETS.items():
        rows = preset.choose(columns)
        if len(rows):
            picked[name] = int(rows[0])
    return picked


def find_preset(name: str) -> Preset:
    """The preset called ``name``; raises CdkaError with the nearest names where there is none."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
