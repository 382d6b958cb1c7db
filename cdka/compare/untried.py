"""The cells of an r1 x r2 x r grid that nobody has run yet, and the runs that would fill one. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pandas as pd

from cdka.compare.comparison import Comparison
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.spec import RunSpec

COLUMNS = ["r1", "r2", "r", "num_params"]


def untried_cells(comparison: Comparison, shown: Sequence[str] | None = None) -> tuple[pd.DataFrame, str | None]:
    """Cells within the range tried that fit every adapted layer and have no arm, with their exact num_params.

    The range: powers of two between, and one beyond, the levels tried, at each r tried. Empty, with the reason in
    words, where the arms are of several models or tasks or the model's shapes are not known here. Of all arms unless
    some are given by ``shown``.
    """
    empty = pd.DataFrame(columns=COLUMNS)
    own = comparison.arms[comparison.arms["method"] == "cdka"]
    own = own if shown is None else own[own["arm"].isin(list(shown))]
    if own.empty:
        return empty, None
    if own["model"].nunique() > 1 or own["task"].nunique() > 1:
        return empty, "Untried cells are shown for one model and task at a time."
    asked = comparison.settings[own["arm"].iloc[0]]
    modules = asked.get("target_modules") or "all-linear"
    try:
        layers = select(find_model(own["model"].iloc[0]), modules)
    except CdkaError as refusal:
        return empty, str(refusal)
    tried = set(own[["r1", "r2", "r"]].astype(int).itertuples(index=False, name=None))
    rows = []
    for r1, r2, r in product(_levels(own["r1"]), _levels(own["r2"]), sorted({int(v) for v in own["r"]})):
        components = Components(r1, r2, r)
        if (r1, r2, r) in tried or any(components.problems(one.out_features, one.in_features) for one in layers):
            continue
        count = sum(one.count * components.num_params(one.out_features, one.in_features) for one in layers)
        rows.append((r1, r2, r, count))
    return pd.DataFrame(rows, columns=COLUMNS), None


def _levels(tried: pd.Series) -> list[int]:
    known = {int(value) for value in tried}
    low, high = min(known), max(known)
    powers = [1 << e for e in range(20) if low / 2 <= (1 << e) <= high * 2]
    return sorted(known | set(powers))


def specs_for(comparison: Comparison, cell: tuple[int, int, int], shown: Sequence[str] | None = None) -> list[RunSpec]:
    """The runs that fill a cell: the settings of the tried arm closest to it, with every seed that arm has.

    Closest in the number of doublings of r1, r2 and r; of several equally close, the one with most seeds.
    """
    own = comparison.arms[comparison.arms["method"] == "cdka"]
    own = own if shown is None else own[own["arm"].isin(list(shown))]
    steps = sum(
        (_log2(own[name]) - _log2(pd.Series([value])).iloc[0]).abs() for name, value in zip(COLUMNS, cell, strict=False)
    )
    chosen = own.assign(steps=steps).sort_values(["steps", "n"], ascending=[True, False], kind="stable").iloc[0]
    runs = comparison.frame[comparison.frame["arm"] == chosen["arm"]]
    base = RunSpec.from_dict(dict(comparison.settings[chosen["arm"]]))
    seeds = sorted({int(seed) for seed in runs["seed"]})
    return [base.with_(components=Components(*cell), seed=seed) for seed in seeds]


def _log2(values: pd.Series) -> pd.Series:
    return values.astype(int).map(lambda value: float(value.bit_length()))
