"""The factor curve of a study: the metric, and its slope along training, at each level; computed and drawn. (ours)

The drawing is plain markup without any library, so that the report is written anywhere. Its colours are those of the
factor; inks are a grey that reads on white and on black; a page may replace them by the class ``study-figure``.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdka import palette
from cdka.claims.catalogue import STUDIES
from cdka.claims.judge import runs_by_regime
from cdka.compare import Measure, StoreSource, compare
from cdka.runs.events import Evaluated
from cdka.runs.metrics import TEST_ACCURACY, measure_of
from cdka.runs.run import Run, Sweep
from cdka.runs.store import Store
from cdka.stats.intervals import band
from cdka.stats.trend import find_series, gains, slopes

FACTORS = {"falls": "r1", "rises": "r2", "rises_with_r": "r"}
"""The factor that a rule looks at."""


@dataclass(frozen=True)
class FactorCurve:
    """One regime of a study of one factor.

    By level: ``values`` per seed, ``means``, 95 % ``intervals`` and ``num_params``. ``steps`` are the changes from
    level to level (``stats.trend.gains``); ``slopes`` holds (step, mean, low, high) of the validation metric per
    doubling.
    """

    regime: str
    levels: tuple[int, ...]
    values: dict[int, tuple[float, ...]]
    means: dict[int, float]
    intervals: dict[int, tuple[float, float]]
    num_params: dict[int, int | None]
    steps: tuple[dict, ...]
    slopes: tuple[tuple[int, float, float, float], ...]


def factor_curves(store: Store, sweep: Sweep, metric: str = TEST_ACCURACY) -> tuple[str, list[FactorCurve]]:
    """The factor that a study varies, and its curve in each regime; empty for a study of something else."""
    rules = [claim.rule for claim in STUDIES[sweep.plan["study"]].claims]
    factor = next((FACTORS[rule] for rule in rules if rule in FACTORS), "")
    if not factor:
        return "", []
    found = [factor_curve(store, runs, regime, factor, metric) for regime, runs in runs_by_regime(store, sweep).items()]
    return factor, [one for one in found if one is not None]


def factor_curve(
    store: Store, runs: Sequence[Run], regime: str, factor: str, metric: str = TEST_ACCURACY
) -> FactorCurve | None:
    """The factor curve of the CDKA runs of one regime; None where they do not vary ``factor`` or none has ended."""
    own = [run.run_id for run in runs if run.spec.method == "cdka"]
    if not own:
        return None
    source = StoreSource(store, run_ids=own)
    found = compare(source, Measure(metric=metric))
    series = find_series(found.arms, factor, found.settings)
    if not series or not found.table.notna().any(axis=None):
        return None
    rows = found.arms.set_index("arm").loc[series[0]]
    level_of = {arm: int(rows.loc[arm, factor]) for arm in series[0]}
    levels = tuple(level_of.values())
    table = found.table.loc[series[0]]
    curves = source.curves(own)
    return FactorCurve(
        regime,
        levels,
        {level_of[a]: tuple(float(v) for v in table.loc[a] if np.isfinite(v)) for a in series[0]},
        {level_of[a]: float(rows.loc[a, "mean"]) for a in series[0]},
        {level_of[a]: (float(rows.loc[a, "ci_low"]), float(rows.loc[a, "ci_high"])) for a in series[0]},
        {level_of[a]: None if np.isnan(p := float(rows.loc[a, "num_params"])) else int(p) for a in series[0]},
        tuple(gains(found.table, series[:1], level_of)),
        _along(curves, runs, factor, metric),
    )


def _along(curves: pd.DataFrame, runs: Sequence[Run], factor: str, metric: str) -> tuple:
    """(step, slope, low, high) at every step where validation was looked at by all levels of some seed."""
    column = f"eval/{measure_of(metric)}"
    if curves.empty or column not in curves.columns:
        return ()
    where = {
        run.run_id: (int(getattr(run.spec.components, factor)), run.spec.seed) for run in runs if run.spec.components
    }
    seen = curves[(curves["kind"] == Evaluated.kind) & curves["run_id"].isin(where)]
    level, seed = (seen["run_id"].map(lambda run_id, i=i: where[run_id][i]) for i in (0, 1))
    values = seen.assign(level=level, seed=seed).pivot_table(
        index=["step", "level"], columns="seed", values=column, dropna=False
    )
    levels = sorted({level for level, _ in where.values()})
    along = []
    for step in values.index.levels[0]:
        table = values.loc[step].reindex(levels)
        _, mean, _, low, high = band(slopes(table, [levels], {n: n for n in levels}).to_numpy(dtype=float))
        if np.isfinite(mean):
            along.append((int(step), float(mean), float(low), float(high)))
    return tuple(along)


INK = palette.NEUTRAL
WIDTH, PANEL, LEFT, TOP, HEIGHT = 860, 150, 58, 40, 196


def factor_svg(factor: str, curves_by_regime: Sequence[FactorCurve], metric: str = "accuracy") -> str:
    """Per regime a panel of the metric at the end over the factor, and one of the slope per doubling over the steps.

    Every dot is a run; bars and bands are 95 % t intervals over seeds. The two kinds of panel keep their range over
    the regimes, as small multiples do.
    """
    colour = palette.FACTORS[factor]
    slot = (WIDTH - 10) / (2 * len(curves_by_regime))
    body: list[str] = []
    ends = [v for c in curves_by_regime for level in c.levels for v in (*c.values[level], *c.intervals[level])]
    slopes = [v for c in curves_by_regime for _, mean, low, high in c.slopes for v in (mean, low, high)] + [0.0]
    y_end, y_slope = _range(ends), _range(slopes)
    for i, curve in enumerate(curves_by_regime):
        body.append(_ends(LEFT + 2 * i * slot, slot - LEFT, factor, curve, y_end, colour, metric))
        body.append(_slope_panel(LEFT + (2 * i + 1) * slot, slot - LEFT, curve, y_slope, colour, factor))
    title = f"{metric} over {factor}, and its slope along training"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + HEIGHT + 14}" role="img" '
        f'class="study-figure" font-family="system-ui, sans-serif" font-size="11" fill="{INK}" stroke="none">'
        f"<title>{html.escape(title)}</title>{''.join(body)}</svg>"
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    known = [v for v in values if math.isfinite(v)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = 0.06 * (high - low or 0.1)
    return low - room, high + room


def _ends(
    x0: float, width: float, factor: str, curve: FactorCurve, span: tuple[float, float], colour: str, metric: str
) -> str:
    y = _scale(span)
    logs = [math.log2(level) for level in curve.levels]
    low, high = min(logs), max(logs)

    def x(level: float) -> float:
        return x0 + 8 + (width - 16) * (math.log2(level) - low) / (high - low or 1)

    parts = [_frame(x0, width, f"{curve.regime}: {metric}", span, y)]
    points = []
    for level in curve.levels:
        mean, (bottom, top) = curve.means[level], curve.intervals[level]
        parts.append(_text(x(level), TOP + PANEL + 15, str(level), "middle"))
        parts += [_dot(x(level), y(v), 2, colour, 0.45) for v in curve.values[level]]
        if math.isfinite(bottom):
            parts.append(_line(x(level), y(bottom), x(level), y(top), colour, 1.5))
        if math.isfinite(mean):
            points.append(f"{x(level):.1f},{y(mean):.1f}")
            parts.append(_dot(x(level), y(mean), 4, colour))
    parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    parts.append(_text(x0 + width / 2, TOP + PANEL + 32, factor, "middle", colour, bold=True))
    return "".join(parts)


def _slope_panel(
    x0: float, width: float, curve: FactorCurve, span: tuple[float, float], colour: str, factor: str
) -> str:
    y = _scale(span)
    last = max((step for step, *_ in curve.slopes), default=1) or 1

    def x(step: float) -> float:
        return x0 + (width - 8) * step / last

    parts = [_frame(x0, width, f"{curve.regime}: per doubling of {factor}", span, y, digits=3)]
    parts.append(_line(x0, y(0), x0 + width, y(0), INK, 1, "3 3"))
    known = [row for row in curve.slopes if math.isfinite(row[2])]
    if known:
        edge = [f"{x(s):.1f},{y(low):.1f}" for s, _, low, _ in known]
        edge += [f"{x(s):.1f},{y(high):.1f}" for s, _, _, high in reversed(known)]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{colour}" fill-opacity=".18"/>')
    line = " ".join(f"{x(s):.1f},{y(mean):.1f}" for s, mean, *_ in curve.slopes)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    parts += [_text(x(step), TOP + PANEL + 15, str(step), "middle") for step in sorted({0, last // 2, last})]
    parts.append(_text(x0 + width / 2, TOP + PANEL + 32, "step (validation)", "middle"))
    return "".join(parts)


def _scale(span: tuple[float, float]) -> Callable[[float], float]:
    low, high = span
    return lambda value: TOP + PANEL - PANEL * (value - low) / (high - low)


def _frame(
    x0: float, width: float, title: str, span: tuple[float, float], y: Callable[[float], float], digits: int = 2
) -> str:
    parts = [_text(x0 - 40, 18, title, "start", bold=True)]
    low, high = span
    for value in _ticks(low, high):
        parts.append(_line(x0, y(value), x0 + width, y(value), INK, 0.4))
        parts.append(_text(x0 - 6, y(value) + 4, f"{value:.{digits}f}", "end"))
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    first = math.ceil(low / step)
    return [step * i for i in range(first, math.floor(high / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str, colour: str = INK, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{html.escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _dot(x: float, y: float, radius: float, colour: str, opacity: float = 1) -> str:
    faint = "" if opacity == 1 else f' fill-opacity="{opacity}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"{faint}/>'
