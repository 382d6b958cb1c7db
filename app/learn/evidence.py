"""The shipped studies as the course shows them: findings by claim, and arms at several learning rates by design.

Everything is read from the reports in ``assets/studies``; no number of a study stands in the course's text.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import charts, theme
from app.learn.live import spread
from app.sweeps.shipped_studies import documents
from cdka.claims.catalogue import SHORT_LOW
from cdka.claims.judge import Finding
from cdka.formatting import plural
from cdka.paths import assets_dir

EARLY = ("early", SHORT_LOW)
"""The regime of short training at a low rate, as reports of 0.1.0 and later ones name it; every other one trains
longer or searches its rates."""
ACCURACY = ("accuracy", "gain in accuracy")
"""Beginning of the measure of a finding whose effect is in accuracy."""

WITHDRAWN, REUSED = "**Withdrawn as stated.**", "**No new evidence:**"
"""Open the remark of a report whose claims no longer stand, and of one made of another's runs; the reason follows."""

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


@lru_cache(maxsize=1)
def findings() -> tuple[Evidence, ...]:
    """Every claim and regime once: of several reports on it, the one with the most seeds, then the newest.

    Reports whose claims have been withdrawn, and those made of another report's runs, are left out.
    """
    kept: dict[tuple[str, str, str], tuple[tuple[int, str], Evidence]] = {}
    for path, document in shipped():
        if withdrawn(path.stem) or REUSED in path.read_text(encoding="utf-8"):
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
    return tuple(evidence for _, evidence in kept.values())


def find(study: str, regime: str | None = None, words: str = "") -> Evidence | None:
    """The first finding of a study (in a regime) whose claim has these ``words``; None where none ships."""
    own = (e for e in findings() if e.finding.study == study and regime in (None, e.finding.regime))
    return next((e for e in own if words in e.finding.claim), None)


def withdrawn(report: str) -> str:
    """The reason why the claims of a report no longer stand as stated; empty where they do."""
    text = next(path for path, _ in shipped() if path.stem == report).read_text(encoding="utf-8")
    _, mark, rest = text.partition(WITHDRAWN)
    return " ".join(line.removeprefix(">").strip() for line in rest.partition("\n\n")[0].splitlines()) if mark else ""


def signed(value: float) -> str:
    """An effect with its sign."""
    return f"{value:+.3f}"


def name_of(found: Evidence) -> str:
    """The claim in the words of what was measured, without "accuracy" and settings."""
    text = re.sub(r"^(gain in )?accuracy (of )?", "", found.finding.measures)
    return text.split(" · ")[0]


def counted(finding: Finding) -> str:
    """The number of seeds, or of base models, that an interval is over."""
    return plural(finding.n, finding.counted.removesuffix(" model"))


def effect_html(study: str, regime: str | None = None, words: str = "") -> str:
    """The effect of a study's first finding whose claim has these ``words``, with its interval and what it is over."""
    found = find(study, regime, words)
    if found is None:
        return "no report ships with this version"
    finding = found.finding
    return (
        f"{html.escape(name_of(found))}: {signed(finding.effect)} [{signed(finding.ci_low)}, "
        f"{signed(finding.ci_high)}], "
        f"{counted(finding)}, <b>{finding.verdict}</b> "
        f"<span class='cdka-quiet'>(study {study}, {finding.regime})</span>"
    )


def over_bases_html() -> str:
    """The findings of the study of rates over several base models; where its report does not ship, that it is open."""
    found = [effect for effect in findings() if effect.finding.study == "rates"]
    if not found:
        return (
            "<b>Over several base models</b> no report on the best rates ships with this version: whether one rate "
            "fits all sizes better with the factor than without it is open."
        )
    listed = "".join(
        f"<li>{html.escape(effect.finding.claim)} {effect_html('rates', words=effect.finding.claim)}</li>"
        for effect in found
    )
    return f"<b>Over several base models</b><ul class='learn-findings'>{listed}</ul>"


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


SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


def rates_figure(arms: Sequence[RateArm]) -> go.Figure:
    """Accuracy against learning rate, one line per design, named at its end."""
    data, ends = [], []
    for index, design in enumerate(dict.fromkeys(arm.design for arm in arms)):
        row = sorted((arm for arm in arms if arm.design == design), key=lambda arm: arm.lr)
        ink, dash = _ink(design, index)
        mean = np.array([arm.mean for arm in row])
        up, down = (np.array([abs(getattr(arm, end) - arm.mean) for arm in row]) for end in ("high", "low"))
        top = best_rate(row)
        data += [
            {
                "x": [arm.lr for arm in row],
                "y": mean,
                "mode": "lines+markers",
                "name": design,
                "line": {"color": ink, "dash": dash, "width": 2},
                "marker": {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 9},
                "error_y": {"array": np.minimum(up, 1 - mean), "arrayminus": np.minimum(down, mean), "thickness": 1.1},
                "hovertemplate": f"{design}, rate %{{x}}: %{{y:.3f}}<extra></extra>",
            },
            charts.ring(top.lr, top.mean, ink),
        ]
        ends.append((row[-1].mean, design, row[-1].lr, ink))
    ends.sort()
    heights = spread([end[0] for end in ends], 0.05)
    known = sorted({arm.lr for arm in arms})
    return charts.plotly(
        "Where is the best rate of each design?",
        "learning rate",
        "test accuracy",
        data,
        height=490,
        annotations=[
            charts.label(float(np.log10(lr)), height, design, xanchor="left", xshift=10, font={"color": ink})
            for (_, design, lr, ink), height in zip(ends, heights, strict=True)
        ],
        xaxis={
            "type": "log",
            "tickvals": known,
            "ticktext": [f"{lr:g}" for lr in known],
            "range": [float(np.log10(known[0])) - 0.1, float(np.log10(known[-1])) + 0.9],
        },
        yaxis={"range": [0, 1.05]},
    )


def _ink(design: str, index: int) -> tuple[str, str]:
    method = design.split()[0]
    if method == "cdka":
        return (theme.R, theme.R2, theme.R1)[index % 3], "solid"
    return charts.method_colour(method), charts.METHOD_DASHES.get(method, "dash")


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
