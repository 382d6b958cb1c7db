"""The honest question: does alignment predict how good a run ends up? Rank correlation with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cdka.align.record import AlignRecord
from cdka.components import Components
from cdka.errors import CdkaError, unknown
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.metrics import TEST_ACCURACY, measure_of
from cdka.stats.rank_correlation import MIN_POINTS, rank_correlation
from cdka.theory.alignment import combine

if TYPE_CHECKING:
    import pandas as pd

PREDICTORS = {
    "predicted": "predicted alignment",
    "measured": "measured alignment",
    "best": "best possible capture",
    "num_params": "number of parameters",
    "rank_bound": "rank bound",
}
"""Predictors that can be compared with the results of runs, and their names in text."""
_SAME = ("model", "task", "steps", "lr", "alpha", "batch_size")


@dataclass(frozen=True)
class Verdict:
    """Spearman's correlation between a predictor and the final metric over configurations.

    The interval is over configurations, each with its mean over seeds (``cdka.stats.rank_correlation``). ``points`` has
    one row per configuration: r1, r2, r, predictor, mean, sd, seeds.
    """

    predictor: str
    metric: str
    rho: float
    ci_low: float
    ci_high: float
    configurations: int
    runs: int
    points: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "points"}
        return {**plain, "points": self.points.to_dict("records")}

    def sentence(self) -> str:
        """The verdict that the numbers support."""
        size = f"over {self.configurations} configurations and {self.runs} runs"
        numbers = f"Spearman rho = {self.rho:.2f} (95 % interval {self.ci_low:.2f} to {self.ci_high:.2f}) {size}"
        name = PREDICTORS[self.predictor]
        if self.ci_low > 0:
            return f"Higher {name} went with higher {measure_of(self.metric)}: {numbers}."
        if self.ci_high < 0:
            return f"Higher {name} went with lower {measure_of(self.metric)}: {numbers}."
        return f"These runs do not show that the {name} predicts {measure_of(self.metric)}: {numbers}."


def does_it_predict(
    runs: pd.DataFrame,
    *,
    predictor: str = "predicted",
    metric: str = TEST_ACCURACY,
    record: AlignRecord | None = None,
    target_modules: str | tuple[str, ...] = "all-linear",
) -> Verdict:
    """The verdict over finished cdka runs of one model and task under one recipe.

    ``runs`` is ``Store.frame(...)``. ``measured`` and ``best`` need a ``record`` of the same model and task, and use
    the configurations that it covers. Raises CdkaError where runs differ in more than components and seed, or
    where fewer than four configurations remain.
    """
    if predictor not in PREDICTORS:
        raise unknown("predictor", predictor, PREDICTORS)
    if metric not in runs.columns:
        raise unknown("metric", metric, [c for c in runs.columns if runs[c].dtype.kind == "f"])
    done = runs[(runs["method"] == "cdka") & runs[metric].notna() & runs["r1"].notna()]
    for name in _SAME:
        if name in done.columns and done[name].nunique() > 1:
            values = ", ".join(str(v) for v in done[name].unique()[:4])
            raise CdkaError(f"the runs must share one {name}: got {values}. Choose the runs of one sweep.")
    table = _points(done, predictor, metric, record, target_modules)
    if len(table) < MIN_POINTS:
        raise CdkaError(
            f"a rank correlation needs at least {MIN_POINTS} configurations: got {len(table)}. "
            "Finish more runs, or measure alignment on their grid."
        )
    found = rank_correlation(table["predictor"].to_numpy(float), table["mean"].to_numpy(float))
    return Verdict(
        predictor,
        metric,
        found.rho,
        found.low,
        found.high,
        len(table),
        int(table["seeds"].sum()),
        table.reset_index(),
    )


def _key(group: pd.DataFrame) -> tuple[int, int, int]:
    first = group.iloc[0]
    return int(first["r1"]), int(first["r2"]), int(first["r"])


def _points(
    done: pd.DataFrame, predictor: str, metric: str, record: AlignRecord | None, target_modules: str | tuple[str, ...]
) -> pd.DataFrame:
    import pandas as pd

    if done.empty:
        return pd.DataFrame()
    known = _values(done["model"].iloc[0], predictor, record, target_modules)
    rows = []
    for _, group in done.groupby(["r1", "r2", "r"]):
        value = known(*_key(group), group)
        if value is not None:
            spread = float(group[metric].std(ddof=1)) if len(group) > 1 else 0.0
            rows.append((*_key(group), value, float(group[metric].mean()), spread, len(group)))
    columns = ["r1", "r2", "r", "predictor", "mean", "sd", "seeds"]
    return pd.DataFrame(rows, columns=columns).set_index(["r1", "r2", "r"])


def _values(model: str, predictor: str, record: AlignRecord | None, target_modules: str | tuple[str, ...]):
    if predictor in ("measured", "best"):
        if record is None or record.request.model != model:
            raise CdkaError(f"predictor {predictor!r} needs an alignment record of {model!r}. Run: cdka align {model}")
        table = record.overall_frame().set_index(["r1", "r2", "r"])[predictor].to_dict()
        return lambda r1, r2, r, group: table.get((r1, r2, r))
    if predictor == "num_params":
        return lambda r1, r2, r, group: float(group["num_params"].iloc[0])
    linears = select(find_model(model), target_modules)

    def shape_value(r1: int, r2: int, r: int, group: pd.DataFrame) -> float:
        components = Components(r1, r2, r)
        modules = [s for s in linears for _ in range(s.count)]
        if predictor == "predicted":
            return combine(components.alignment(s.in_features) for s in modules)
        return fmean(components.rank_bound(s.out_features, s.in_features) for s in modules)

    return shape_value
