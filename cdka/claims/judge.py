"""From the finished runs of a study to a verdict per claim and regime: supported, contradicted, or not resolved.

Every rule gives one number per seed; its 95 % t interval over seeds decides. A claim is supported where the interval
lies wholly on the claimed side, contradicted where it lies wholly on the other, else not resolved. Two seeds that agree
to the last digit have no spread to go by, and may do so by chance: not resolved.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cdka.claims.catalogue import STUDIES, Claim
from cdka.claims.rules import MARGIN, RULES, Case
from cdka.errors import CdkaError
from cdka.runs.metrics import TEST_ACCURACY, full_name
from cdka.runs.run import Run, Sweep
from cdka.runs.store import Store
from cdka.stats import interval

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
        return cls(**{**data, "metric": full_name(data["metric"])})


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
        keys = [key for key in settings if not (regime == "searched" and key == "lr")]
        return all(getattr(run.spec, key) == settings[key] for key in keys)

    return {
        regime: [run for run in runs if belongs(run, regime, settings)]
        for regime, settings in sweep.plan["regimes"].items()
    }


def _finding(store: Store, study: str, claim: Claim, regime: str, runs: list[Run], metric: str) -> Finding:
    evidence = RULES[claim.rule](Case(store, runs, metric, regime == "searched"))
    values = evidence.values[np.isfinite(evidence.values)]
    n = len(values)

    def told(value: float) -> float:
        return (value - evidence.shift) * evidence.sign

    if n < 2:
        waiting = sum(not run.status.is_finished() for run in runs)
        why = f"{waiting} runs are still to come" if waiting else "it needs at least two seeds with every arm"
        text = f"{claim.text} Not resolved in the {regime} regime: {why}.{evidence.remark}"
        effect = told(float(values[0])) if n else None
        return Finding(
            study,
            regime,
            UNRESOLVED,
            evidence.unit,
            effect,
            None,
            None,
            n,
            metric,
            text,
            claim.text,
            evidence.remark.strip(),
        )
    found = interval(values)
    verdict = SUPPORTED if found.low > 0 else CONTRADICTED if found.high < 0 else UNRESOLVED
    agreed = ""
    if n == 2 and verdict != UNRESOLVED and np.ptp(values) <= 1e-9 * np.abs(values).max():
        verdict, agreed = UNRESOLVED, " Both seeds agree to the last digit, and that may be chance."
    low, high = np.clip(sorted((told(found.low), told(found.high))), -evidence.bound, evidence.bound).tolist()
    text = (
        f"{claim.text} {verdict.capitalize()} in the {regime} regime: {evidence.unit} {signed(told(found.mean))} "
        f"(95 % interval {signed(low)} to {signed(high)}, {n} seeds).{agreed}{evidence.remark}"
    )
    return Finding(
        study,
        regime,
        verdict,
        evidence.unit,
        told(found.mean),
        low,
        high,
        n,
        metric,
        text,
        claim.text,
        (agreed + evidence.remark).strip(),
    )


def signed(value: float) -> str:
    """Three decimals with a sign; more where three would turn a number into zero."""
    text = f"{value:+.3f}"
    return text if value == 0 or float(text) != 0 else f"{value:+.1g}"


__all__ = ["CONTRADICTED", "MARGIN", "SUPPORTED", "UNRESOLVED", "Finding", "judge", "runs_by_regime", "signed"]
