"""Differences with intervals over new seeds and new test examples, from the stored predictions of each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cdka.compare.comparison import Comparison
from cdka.compare.measure import FINAL
from cdka.compare.source import Source
from cdka.runs.metrics import TEST_ACCURACY
from cdka.runs.states import KEPT
from cdka.stats import crossed

MAX_PAIRS = 60
"""Beyond this many pairs the predictions are not read: a headline has a few, all pairs of a large sweep hundreds."""


def right_answers(source: Source, runs: pd.DataFrame) -> pd.DataFrame:
    """Right (1) or wrong (0) by arm and seed (rows) and test example (columns), of the kept runs of ``runs``.

    Runs without stored predictions, or with other examples than most, are left out.
    """
    rows: dict[tuple[str, int], pd.Series] = {}
    for run in runs[runs["status"].isin(KEPT)].itertuples():
        found = source.predictions(run.run_id)
        if len(found):
            right = (found["predicted"] == found["label"]).fillna(False).astype(float)
            rows[run.arm, int(run.seed)] = pd.Series(right.to_numpy(), index=found["example"].to_numpy())
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).T
    return table.dropna(axis=0)


def over_new_examples(
    comparison: Comparison, source: Source, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[float, float]]:
    """The 95 % interval of each pair's difference over new seeds and new examples (``stats.crossed``).

    Empty unless the measure is the test accuracy at the end. Pairs that share fewer than two seeds are left out.
    """
    if comparison.measure.metric != TEST_ACCURACY or comparison.measure.at != FINAL or not pairs:
        return {}
    wanted = {arm for pair in pairs for arm in pair}
    table = right_answers(source, comparison.frame[comparison.frame["arm"].isin(wanted)])
    out = {}
    for a, b in pairs:
        if not {a, b} <= set(table.index.get_level_values(0) if len(table) else ()):
            continue
        left, right = table.loc[a], table.loc[b]
        seeds = left.index.intersection(right.index)
        if len(seeds) > 1:
            found = crossed(left.loc[seeds].to_numpy() - right.loc[seeds].to_numpy())
            if np.isfinite(found.low):
                out[a, b] = found.low, found.high
    return out


def with_new_examples(document: dict[str, Any], comparison: Comparison, source: Source) -> None:
    """Add ``crossed_low`` and ``crossed_high`` to the verdicts of ``report.document``; None where they are unknown."""
    pairs = list(zip(comparison.verdicts["a"], comparison.verdicts["b"], strict=True))
    found = over_new_examples(comparison, source, pairs) if len(pairs) <= MAX_PAIRS else {}
    for ruling, pair in zip(document["verdicts"], pairs, strict=True):
        ruling["crossed_low"], ruling["crossed_high"] = found.get(pair, (None, None))
