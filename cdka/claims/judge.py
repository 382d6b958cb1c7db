"""From the finished runs of a study to a verdict per claim and regime: supported, contradicted, or not resolved.

Every rule gives one number per seed, or per base model; the t-test over them decides at 5 %. A claim is supported where
the mean lies on the claimed side and is resolved, contradicted where it lies on the other and is resolved, else not
resolved. Numbers that agree to the last digit have no spread to go by: the sign-flip test decides and there is no
interval, as in Compare.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cdka.claims.catalogue import STUDIES, Claim
from cdka.claims.evidence import Case
from cdka.claims.plan import SEARCHES
from cdka.claims.rules import MARGIN, RULES
from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.runs.metrics import TEST_ACCURACY, full_name
from cdka.runs.run import Run, Sweep
from cdka.runs.store import Store
from cdka.stats import Interval, interval, t_test
from cdka.stats.paired import ALPHA

SUPPORTED, CONTRADICTED, UNRESOLVED = "supported", "contradicted", "not resolved"


@dataclass(frozen=True)
class Finding:
    """The result of one regime of a study on a claim.

    ``effect`` has the unit that ``measures`` names; ``n`` counts seeds.
    """

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
    claim: str = ""
    remark: str = ""
    """Facts that a reader should know before believing the verdict; part of the sentence too."""
    p: float | None = None
    counted: str = "seed"
    """The unit that ``n`` counts and the interval is about: ``seed`` or ``base model``."""
    better: tuple[int, int] | None = None
    """(comparisons in which the first side did better, all of them) where the effect is a mean over several."""

    @property
    def reading(self) -> str:
        """The sentence without the claim."""
        return self.sentence.removeprefix(self.claim).lstrip()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Finding:
        """The finding that ``to_dict`` wrote."""
        better = data.get("better")
        return cls(**{**data, "metric": full_name(data["metric"]), "better": None if better is None else tuple(better)})


def judge(store: Store, sweep: Sweep, metric: str = TEST_ACCURACY) -> list[Finding]:
    """One finding per claim and regime of the study that ``sweep`` ran, claim by claim.

    Raises CdkaError for a sweep that is not a study.
    """
    name = sweep.plan.get("study")
    if name not in STUDIES:
        raise CdkaError(f"only a study's sweep has a verdict: {sweep.sweep_id} is not one. Start one: cdka study r1")
    study = STUDIES[name]
    own = runs_by_regime(store, sweep)
    return [
        _finding(store, name, claim, regime, own[regime], metric)
        for claim in study.claims
        for regime in sweep.plan["regimes"]
    ]


def runs_by_regime(store: Store, sweep: Sweep) -> dict[str, list[Run]]:
    """The runs of each regime of a study's sweep.

    A search varies the learning rate, so it tells regimes by the rest.
    """
    runs = store.runs(sweep_id=sweep.sweep_id)

    def belongs(run: Run, regime: str, settings: dict[str, Any]) -> bool:
        keys = [key for key in settings if not (regime in SEARCHES and key == "lr")]
        return all(getattr(run.spec, key) == settings[key] for key in keys)

    return {
        regime: [run for run in runs if belongs(run, regime, settings)]
        for regime, settings in sweep.plan["regimes"].items()
    }


def _finding(store: Store, study: str, claim: Claim, regime: str, runs: list[Run], metric: str) -> Finding:
    evidence = RULES[claim.rule](Case(store, runs, metric, regime in SEARCHES))
    values = evidence.values[np.isfinite(evidence.values)]
    n = len(values)

    def shown(value: float) -> float:
        return (value - evidence.shift) * evidence.sign

    p = float(t_test(values)) if n > 1 else None
    found = interval(values)
    if evidence.interval is not None and n == 1:
        low_end, high_end, p, n = evidence.interval
        found = Interval(n, found.mean, float("nan"), low_end, high_end)
    resolved = p is not None and p < ALPHA
    verdict = UNRESOLVED if not resolved else SUPPORTED if found.mean > 0 else CONTRADICTED
    low = high = None
    if np.isfinite(found.low):
        ends = sorted((shown(found.low), shown(found.high)))
        low, high = np.clip(ends, -evidence.bound, evidence.bound).tolist()
    if n < 2:
        waiting = sum(not run.status.is_finished() for run in runs)
        units = f"at least two {evidence.counted}s with every arm"
        why = f"{waiting} runs are still to come" if waiting else f"it needs {units}"
        text = f"{claim.text} Not resolved in the {regime} regime: {why}.{evidence.remark}"
    else:
        told_ends = f"95 % interval {signed(low)} to {signed(high)}" if low is not None else "no interval: all agree"
        text = (
            f"{claim.text} {verdict.capitalize()} in the {regime} regime: {evidence.unit} {signed(shown(found.mean))} "
            f"({told_ends}, {plural(n, evidence.counted)}).{evidence.remark}"
        )
    return Finding(
        study,
        regime,
        verdict,
        evidence.unit,
        shown(found.mean) if n else None,
        low,
        high,
        n,
        metric,
        text,
        claim.text,
        evidence.remark.strip(),
        p,
        evidence.counted,
        evidence.better,
    )


def signed(value: float) -> str:
    """Three decimals with a sign; more where three would turn a number into zero."""
    text = f"{value:+.3f}"
    return text if value == 0 or float(text) != 0 else f"{value:+.1g}"


__all__ = ["CONTRADICTED", "MARGIN", "SUPPORTED", "UNRESOLVED", "Finding", "judge", "runs_by_regime", "signed"]
