"""From the finished runs of a study to a verdict per regime: supported, contradicted, or not resolved.

Every rule counts seeds, not runs: a statistic per seed, then its 95 % t interval over seeds. A claim is supported where
the interval lies wholly on the claimed side, contradicted where it lies wholly on the other, else not resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cdka.compare import Comparison, Measure, StoreSource, compare, t_interval
from cdka.compare.trend import ladders, slopes
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.record import FAILED, FINISHED, Run, Sweep
from cdka.runs.store import Store
from cdka.studies.catalogue import STUDIES, Study
from cdka.theory.alignment import combine

SUPPORTED, CONTRADICTED, UNRESOLVED = "supported", "contradicted", "not resolved"
MARGIN = 0.01
"""How far below LoRA an eighth of its parameters may stay and still count as enough."""


@dataclass(frozen=True)
class Finding:
    """What one regime of a study showed. ``effect`` has the unit that ``measures`` names; ``n`` counts seeds."""

    study: str
    regime: str
    verdict: str
    measures: str
    effect: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    metric: str
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Evidence:
    """One value per seed, oriented so that positive supports the claim, and what it measures.

    ``unit`` says what the reported effect is; ``sign`` turns the oriented value back into it.
    """

    values: np.ndarray
    unit: str
    sign: float = 1.0
    remark: str = ""


def judge(store: Store, sweep: Sweep, metric: str = "accuracy") -> list[Finding]:
    """One finding per regime of the study that ``sweep`` ran. Raises CdkaError for a sweep that is not a study."""
    name = sweep.plan.get("study")
    if name not in STUDIES:
        raise CdkaError(f"only a study's sweep has a verdict: {sweep.sweep_id} is not one. Start one: cdka study r1")
    study = STUDIES[name]
    runs = store.runs(sweep_id=sweep.sweep_id)
    findings = []
    for regime, settings in sweep.plan["regimes"].items():
        own = [run for run in runs if _belongs(run, settings, regime)]
        findings.append(_finding(store, study, regime, own, metric))
    return findings


def _belongs(run: Run, settings: dict[str, Any], regime: str) -> bool:
    """Whether a run was trained in this regime; a search varies the learning rate, so it tells regimes by the rest."""
    keys = [key for key in settings if not (regime == "searched" and key == "lr")]
    return all(getattr(run.spec, key) == settings[key] for key in keys)


def _finding(store: Store, study: Study, regime: str, runs: list[Run], metric: str) -> Finding:
    evidence = _RULES[study.judgement](store, runs, metric, regime == "searched")
    values = evidence.values[np.isfinite(evidence.values)]
    n = len(values)
    if n < 2:
        waiting = sum(run.status not in FINISHED for run in runs)
        why = f"{waiting} runs are still to come" if waiting else "it needs at least two seeds with every arm"
        effect = float(values[0]) * evidence.sign if n else None
        text = f"{study.claim} Not resolved in the {regime} regime: {why}.{evidence.remark}"
        return Finding(study.name, regime, UNRESOLVED, evidence.unit, effect, None, None, n, metric, text)
    if np.ptp(values) == 0:
        low = high = mean = float(values[0])
    else:
        interval = t_interval(values)
        mean, low, high = float(np.mean(values)), interval.low, interval.high
    verdict = SUPPORTED if low > 0 else CONTRADICTED if high < 0 else UNRESOLVED
    effect, ends = mean * evidence.sign, sorted((low * evidence.sign, high * evidence.sign))
    text = (
        f"{study.claim} {verdict.capitalize()} in the {regime} regime: {evidence.unit} {effect:+.3f} "
        f"(95 % interval {ends[0]:+.3f} to {ends[1]:+.3f}, {n} seeds).{evidence.remark}"
    )
    return Finding(study.name, regime, verdict, evidence.unit, effect, ends[0], ends[1], n, metric, text)


def _comparison(store: Store, runs: list[Run], metric: str, searched: bool) -> Comparison:
    return compare(StoreSource(store, run_ids=[run.run_id for run in runs]), Measure(metric=metric), choose_lr=searched)


def _slope(factor: str, sign: float) -> Callable[..., _Evidence]:
    def rule(store: Store, runs: list[Run], metric: str, searched: bool) -> _Evidence:
        found = _comparison(store, runs, metric, searched)
        rungs = ladders(found.arms, factor, found.settings)
        levels = {row.arm: int(getattr(row, factor)) for row in found.arms[found.arms["method"] == "cdka"].itertuples()}
        values = slopes(found.table, rungs, levels).to_numpy(dtype=float) if rungs else np.empty(0)
        return _Evidence(sign * values, f"{metric} per doubling of {factor}", sign)

    return rule


def _diminishes(store: Store, runs: list[Run], metric: str, searched: bool) -> _Evidence:
    """The first doubling's gain minus the last one's, and whether the metric rises at all."""
    found = _comparison(store, runs, metric, searched)
    rungs = ladders(found.arms, "r", found.settings)
    if not rungs:
        return _Evidence(np.empty(0), f"gain in {metric} of the first doubling of r over the last")
    rows = found.table.loc[rungs[0]]
    gains = rows.diff().iloc[1:]
    excess = (gains.iloc[0] - gains.iloc[-1]).to_numpy(dtype=float)
    rise = (rows.iloc[-1] - rows.iloc[0]).to_numpy(dtype=float)
    remark = ""
    if np.isfinite(rise).sum() > 1:
        remark = f" Over all doublings together the {metric} changed by {np.nanmean(rise):+.3f}."
    return _Evidence(excess, f"gain in {metric} of the first doubling of r over the last", 1.0, remark)


def _pairs(store: Store, runs: list[Run], metric: str, searched: bool) -> _Evidence:
    """Per seed, the mean over budgets of best-aligned minus worst-aligned."""
    found = _comparison(store, runs, metric, searched)
    alignment = _alignments(runs)
    rows = found.arms[found.arms["method"] == "cdka"]
    order = rows.sort_values("num_params", kind="stable")["arm"].to_list()
    differences = []
    for one, other in zip(order[::2], order[1::2], strict=False):
        better, worse = sorted((one, other), key=lambda arm: -alignment[_components(found, arm)])
        differences.append(found.table.loc[better] - found.table.loc[worse])
    values = pd.concat(differences, axis=1).mean(axis=1, skipna=False).to_numpy(dtype=float) if differences else []
    remark = f" {len(differences)} budgets."
    return _Evidence(np.asarray(values), f"{metric} of the best-aligned option over the worst at a budget", 1.0, remark)


def _against_lora(margin: float) -> Callable[..., _Evidence]:
    def rule(store: Store, runs: list[Run], metric: str, searched: bool) -> _Evidence:
        found = _comparison(store, runs, metric, searched)
        rows = found.arms[found.arms["n"] > 0]
        lora = rows[(rows["method"] == "lora")]["arm"].to_list()
        cdka = rows[rows["method"] == "cdka"]["arm"].to_list()
        if not lora or not cdka:
            return _Evidence(np.empty(0), f"{metric} of CDKA over LoRA")
        # The first CDKA arm was named before anything ran; LoRA may use the better of its two scalings.
        best = max(lora, key=lambda arm: float(found.table.loc[arm].mean()))
        values = (found.table.loc[cdka[0]] - found.table.loc[best]).to_numpy(dtype=float) + margin
        labels = found.labels
        unit = f"{metric} of {labels[cdka[0]]} over {labels[best]}" + (
            f", plus the margin {margin:g}" if margin else ""
        )
        return _Evidence(values, unit)

    return rule


def _stabilises(store: Store, runs: list[Run], metric: str, searched: bool) -> _Evidence:
    """Accuracy with the rule minus without any; a diverged run is counted apart, and said."""
    diverged = {rule: 0 for rule in ("sqrt_r_r2", "sqrt_r", "r", "none")}
    for run in runs:
        diverged[run.spec.scaling_rule] += run.status == FAILED
    tried = len({run.spec.seed for run in runs})
    remark = " Diverged: " + ", ".join(f"{rule} {count} of {tried}" for rule, count in diverged.items()) + "."
    unit = f"{metric} with 1/sqrt(r r2) over {metric} without any factor"
    if not any(run.status in ("done", "stopped") for run in runs):
        return _Evidence(np.empty(0), unit, 1.0, remark)
    found = _comparison(store, runs, metric, searched)
    arms = {found.settings[arm].get("scaling_rule", "sqrt_r_r2"): arm for arm in found.table.index}
    values = found.table.loc[arms["sqrt_r_r2"]] - found.table.loc[arms["none"]]
    return _Evidence(values.to_numpy(dtype=float), unit, 1.0, remark)


def _correlates(store: Store, runs: list[Run], metric: str, searched: bool) -> _Evidence:
    """Spearman's rank correlation of predicted alignment with the metric, one per seed."""
    found = _comparison(store, runs, metric, searched)
    predicted = _alignments(runs)
    alignment = [predicted[_components(found, arm)] for arm in found.table.index]
    values = [
        float(stats.spearmanr(alignment, found.table[seed]).statistic)
        for seed in found.table.columns
        if found.table[seed].notna().all()
    ]
    return _Evidence(np.array(values), f"rank correlation of predicted alignment with {metric}")


def _components(found: Comparison, arm: str) -> Components:
    row = found.arms[found.arms["arm"] == arm].iloc[0]
    return Components(int(row["r1"]), int(row["r2"]), int(row["r"]))


def _alignments(runs: list[Run]) -> dict[Components, float]:
    """Predicted alignment over the adapted layers, for every configuration among the runs."""
    layers = select(find_model(runs[0].spec.model), runs[0].spec.target_modules)
    inputs = [layer.in_features for layer in layers for _ in range(layer.count)]
    wanted = {run.spec.components for run in runs if run.spec.components is not None}
    return {c: combine([c.alignment(n) for n in inputs]) for c in wanted}


_RULES: dict[str, Callable[..., _Evidence]] = {
    "falls": _slope("r1", -1.0),
    "rises": _slope("r2", 1.0),
    "diminishes": _diminishes,
    "pairs": _pairs,
    "beats_lora": _against_lora(0.0),
    "close_to_lora": _against_lora(MARGIN),
    "stabilises": _stabilises,
    "correlates": _correlates,
}
