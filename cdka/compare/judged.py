"""The examples that compared runs were judged on, and what they kept of an earlier ability. Pure."""

from __future__ import annotations

import pandas as pd

from cdka.runs.states import KEPT

SPLITS = {"eval": "validation", "test": "test"}
RETAINED = tuple(f"retained/{when}_{measure}" for when in ("before", "after") for measure in ("accuracy", "loss"))
"""The metrics of a run with ``retain``: judged before its first step and after its last."""


def judged_words(frame: pd.DataFrame, split: str = "test") -> str:
    """``these 64 of 1,319 test``, where all runs were judged on the same part; ``the same test`` where that is unknown.

    ``frame`` has one row per run, with the metrics as columns.
    """
    words = SPLITS[split]
    used, of = (_known(frame, f"{split}/{name}") for name in ("examples", "of"))
    if used.nunique() != 1:
        return f"the same {words}"
    part = f"{int(used.iloc[0]):,}"
    if of.nunique() == 1 and of.iloc[0] > used.iloc[0]:
        part += f" of {int(of.iloc[0]):,}"
    return f"these {part} {words}"


def judged_differently(frame: pd.DataFrame) -> list[str]:
    """A line for each split and task whose kept runs were judged on different examples: these do not compare."""
    kept = frame[frame["status"].isin(KEPT)]
    found = []
    for task, runs in kept.groupby("task", sort=False):
        for split, words in SPLITS.items():
            used = sorted({int(value) for value in _known(runs, f"{split}/examples")})
            if len(used) > 1:
                sizes = " and ".join(f"{size:,}" for size in used)
                found.append(
                    f"Runs on {task} were judged on different {words} examples ({sizes} of them): their numbers do not "
                    f"compare. Repeat some with the same --{split}-examples."
                )
    return found


def kept_words(row: pd.Series) -> str:
    """``0.97 to 0.95`` for an arm's retained accuracy, or ``loss 2.31 to 2.40``; empty where nothing was judged."""
    for measure, opening in (("accuracy", ""), ("loss", "loss ")):
        before, after = (row.get(f"retained/{when}_{measure}") for when in ("before", "after"))
        if pd.notna(before) and pd.notna(after):
            return f"{opening}{before:.3g} to {after:.3g}"
    return ""


def _known(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame:
        return pd.Series(dtype=float)
    return pd.to_numeric(frame[column], errors="coerce").dropna()
