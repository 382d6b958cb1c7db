"""The shipped studies as the course shows them: findings by claim, and arms at several learning rates by design.

Everything is read from the reports in ``assets/studies``; no number of a study stands in the course's text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.sweeps.shipped_studies import documents
from cdka.claims.judge import Finding
from cdka.paths import assets_dir

EARLY = "early"
"""The regime of short training at a low rate; every other one trains longer or searches its rates."""
ACCURACY = ("accuracy", "gain in accuracy")
"""Beginning of the measure of a finding whose effect is in accuracy."""

WITHDRAWN = "**Withdrawn as stated.**"
"""Opens the remark of a report whose claims no longer stand; the reason follows there."""

_RATE = re.compile(r"^lr ([\d.e-]+)$")
_INTERVAL = re.compile(r"^(-?[\d.]+) to (-?[\d.]+)$")


@dataclass(frozen=True)
class Evidence:
    """One finding and the report that it stands in."""

    finding: Finding
    report: str
    model: str
    task: str
    settings: str

    @property
    def in_accuracy(self) -> bool:
        """True where the effect is a difference or a slope of accuracy."""
        return self.finding.measures.startswith(ACCURACY)


@dataclass(frozen=True)
class RateArm:
    """One arm of a study: its design, its learning rate, mean accuracy with its interval, seeds."""

    design: str
    lr: float
    mean: float
    low: float
    high: float
    seeds: int


@lru_cache(maxsize=1)
def shipped() -> tuple[tuple[Path, dict[str, Any]], ...]:
    """The shipped reports: the Markdown file and the data beside it."""
    return documents(assets_dir() / "studies")


def findings() -> list[Evidence]:
    """Every claim and regime once: of several reports on it, the one with the most seeds, then the newest.

    Reports whose claims have been withdrawn are left out.
    """
    kept: dict[tuple[str, str, str], tuple[tuple[int, str], Evidence]] = {}
    for path, document in shipped():
        if WITHDRAWN in path.read_text(encoding="utf-8"):
            continue
        for study in document["studies"]:
            for entry in study["findings"]:
                finding = Finding.from_dict(entry)
                if finding.effect is None or finding.ci_low is None:
                    continue
                settings = study["regimes"].get(finding.regime, {})
                evidence = Evidence(
                    finding,
                    path.stem,
                    document["model"],
                    document["task"],
                    ", ".join(
                        f"{name} {value:g}" for name, value in settings.items() if isinstance(value, int | float)
                    ),
                )
                key = (finding.study, finding.claim, finding.regime)
                rank = (finding.n, document["date"])
                if key not in kept or rank > kept[key][0]:
                    kept[key] = (rank, evidence)
    return [evidence for _, evidence in kept.values()]


def find(study: str, regime: str | None = None, words: str = "") -> Evidence | None:
    """The first finding of a study (in a regime) whose claim has these ``words``; None where none ships."""
    own = (e for e in findings() if e.finding.study == study and regime in (None, e.finding.regime))
    return next((e for e in own if words in e.finding.claim), None)


@lru_cache(maxsize=1)
def rate_studies() -> dict[str, tuple[RateArm, ...]]:
    """The shipped reports with two or more designs at three or more learning rates on one base, by name."""
    found = {}
    for path, document in shipped():
        if any(one.get("counted") == "base model" for study in document["studies"] for one in study["findings"]):
            continue
        arms = tuple(_rate_arms(path.read_text(encoding="utf-8")))
        designs = {arm.design for arm in arms}
        if sum(len({arm.lr for arm in arms if arm.design == design}) >= 3 for design in designs) >= 2:
            found[path.stem] = arms
    return found


def best_rate(arms: list[RateArm]) -> RateArm:
    """The arm with the highest mean."""
    return max(arms, key=lambda arm: arm.mean)


def _rate_arms(report: str) -> Iterator[RateArm]:
    """The rows of every table of arms in a report whose label ends in a learning rate."""
    columns: list[str] = []
    for line in report.splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not columns:
            columns = cells
            continue
        row = dict(zip(columns, cells, strict=False))
        *design, last = row.get("arm", "").split(" · ")
        rate, interval = _RATE.match(last), _INTERVAL.match(row.get("95 % interval", ""))
        mean = row.get("accuracy") or row.get("eval/accuracy") or row.get("test/accuracy") or ""
        if design and rate and interval and mean.replace(".", "", 1).isdecimal():
            seeds = row.get("seeds", "0")
            yield RateArm(
                " · ".join(design),
                float(rate[1]),
                float(mean),
                float(interval[1]),
                float(interval[2]),
                int(seeds) if seeds.isdecimal() else 0,
            )


def ceiling(r1: int, r2: int) -> float:
    """Alignment over LoRA's at equal price on a square layer: sqrt(2 / (1 + (r1/r2)^2)), r being free. (ours)"""
    return math.sqrt(2.0 / (1.0 + (r1 / r2) ** 2))
