"""The figures of chapter 6: the contestants, all that fits the budget, the rehearsal, the runs, earlier runs."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import charts, data, theme, widgets
from app.learn import drawing, live, scoring
from app.learn.contest.arms import LORA, MINE, NUM_SEEDS, TWIN, Arm, contest, results, solution, test_accuracy, tried
from app.learn.course import Page, Question, Values
from app.learn.player import player
from app.learn.toy import Training
from cdka import formatting
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.metrics import EVAL_ACCURACY
from cdka.runs.run import Run
from cdka.runs.states import RunState
from cdka.stats.intervals import Interval, interval
from cdka.tasks import digits

INKS = {MINE: theme.R, TWIN: theme.R1, LORA: theme.LORA}
"""The contestants keep their colours from the field to the curves."""
TOY_SIDE, TOY_LR = 64, 0.01
MAX_PLACES = 10


def design(values: Values) -> Components:
    """The learner's design."""
    return Components(values["r1"], values["r2"], values["r"])


def draw(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    budget, c = values["budget"], design(values)
    if page.view == "tried":
        scoring.draw_scoreboard(6)
        leaderboard(budget, c)
        return
    arms = contest(budget, c)
    if page.view == "race":
        player("c6", c, lambda: race(c))
        widgets.caption(
            f"A network of 64 × 64 and 10 × 64 on the same digits, learning rate {TOY_LR:g} for all, "
            f"seed 0; computed in "
            "NumPy by this page, one seed."
        )
        return
    if page.view == "design":
        widgets.html_block(digits_html(0))
    else:
        charts.show(field(budget, arms), "c6_field", "Alignment and rank of every configuration within the budget")
    widgets.html_block(_table(arms, solution(budget).budget_params))
    widgets.caption(f"Counted and predicted by cdka.solver for all linear layers of digits-vit; budget {budget}.")


def race(c: Components) -> list[tuple[str, Training]]:
    """The contestants on the small network: LoRA has the largest rank that costs no more than the design."""
    try:
        price = c.num_params(TOY_SIDE, TOY_SIDE)
    except CdkaError as refusal:
        raise CdkaError(f"the small network has a layer of {TOY_SIDE} × {TOY_SIDE}: {refusal}") from None
    lora = Components(1, 1, max(1, price // (2 * TOY_SIDE)))
    arms = [(MINE, c)]
    if c.r1 != c.r2:
        arms.append((TWIN, Components(c.r2, c.r1, c.r)))
    return [(name, Training(d, lr=TOY_LR)) for name, d in (*arms, (f"LoRA {lora.r}", lora))]


def digits_html(seed: int) -> str:
    """One training digit of each label, as the model knows it and as the task shows it."""
    upright = digits.images(digits.samples(seed))
    rows = (("What it reads now", upright), ("What it must learn to read", digits.shift(upright)))
    return (
        '<div class="learn-digits">'
        + "".join(
            f"<span>{label}</span>{strip_svg(pictures, f'{label}: the digits 0 to 9')}" for label, pictures in rows
        )
        + "</div>"
    )


def strip_svg(pictures: np.ndarray, label: str) -> str:
    """Images of (n, 8, 8) in [0, 1] side by side; 0 is black. Neighbours of one grey in a row share a rectangle."""
    rects = []
    for index, picture in enumerate(pictures):
        for y, row in enumerate(np.round(picture * 15).astype(int)):
            edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
            for left, right in pairwise(edges):
                grey = f"{row[left]:x}" * 3
                rects.append(f'<rect x="{index * 9 + left}" y="{y}" width="{right - left}" height="1" fill="#{grey}"/>')
    return (
        f'<svg viewBox="0 0 {9 * len(pictures) - 1} 8" role="img" aria-label="{label}" shape-rendering="crispEdges">'
        f"{''.join(rects)}</svg>"
    )


def _table(arms: Sequence[Arm], budget_params: int) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(arm.name)}</td><td>{widgets.method_chip_html(arm.specs[0])}</td>"
        f"<td>{arm.option.num_params:,} "
        f'<span class="cdka-quiet">({formatting.percent(arm.option.num_params / budget_params)} of the budget)</span>'
        "</td>"
        f"<td>{arm.option.alignment:.3f}</td><td>{arm.option.rank_bound}</td>"
        f"<td>{formatting.percent(arm.option.flops_overhead)}</td></tr>"
        for arm in arms
    )
    twin = (
        "" if len(arms) > 2 else '<p class="cdka-quiet">With r1 = r2 the twin is the design itself: there is none.</p>'
    )
    return (
        '<div class="learn-question"><table><thead><tr><th></th><th>setting</th><th>parameters</th><th>alignment</th>'
        f"<th>rank up to</th><th>more arithmetic</th></tr></thead><tbody>{rows}</tbody></table>{twin}</div>"
    )


def field(budget: str, arms: Sequence[Arm]) -> go.Figure:
    """Predicted alignment against rank bound for all that fits the budget; the contestants named."""
    columns = solution(budget).columns
    top = float(np.max(columns.alignment))
    lora = next(arm for arm in arms if arm.name == LORA).option
    finding = (
        "nothing aligns better than LoRA"
        if top <= lora.alignment * 1.001
        else f"at best {top / lora.alignment:.3g} times LoRA's alignment"
    )
    settings = {
        "x": np.asarray(columns.rank_bound, dtype=np.float32),
        "y": np.asarray(columns.alignment, dtype=np.float32),
        "mode": "markers",
        "marker": {"color": theme.R, "size": 8, "opacity": 0.4},
        "text": [f"r1 {a} · r2 {b} · r {k}" for a, b, k in zip(columns.r1, columns.r2, columns.r, strict=True)],
        "hovertemplate": "%{text}<br>rank %{x}, alignment %{y:.3f}<extra></extra>",
    }
    places = {MINE: ("top left", "circle"), TWIN: ("bottom left", "diamond"), LORA: ("bottom right", "square")}
    edge = {"size": 15, "line": {"color": theme.ink(), "width": 2.5}}
    named = [
        {
            "x": [arm.option.rank_bound],
            "y": [arm.option.alignment],
            "mode": "markers+text",
            "text": [f"<b>{html.escape(arm.name)}</b>"],
            "textposition": places[arm.name][0],
            "hoverinfo": "skip",
            "marker": {**edge, "symbol": places[arm.name][1], "color": INKS[arm.name]},
        }
        for arm in arms
    ]
    return charts.plotly(
        f"{len(columns)} settings fit: {finding}",
        "rank that ΔW can reach, mean over layers",
        "predicted alignment",
        [settings, *named],
        height=400,
        xaxis={"range": [-6, 150]},
        yaxis={"range": [0, 1.2 * top]},
    )


def within(budget: str) -> list[Run]:
    """Every run of this contest that keeps to the budget."""
    params = solution(budget).budget_params
    return [run for run in tried(data.store()) if run.num_params is not None and run.num_params <= params]


def leaderboard(budget: str, mine: Components) -> None:
    """Every design tried under this budget on this machine, by its mean over seeds; the present one is marked."""
    params, runs = solution(budget).budget_params, within(budget)
    if not runs:
        drawing.placeholder("Nothing has been trained under this budget yet. The last page does it.")
        return
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.spec.method, run.spec.components, run.spec.rank, run.spec.lr), []).append(run)
    ranked = sorted(groups.values(), key=lambda group: -_score(group).mean)
    rows = "".join(
        _place(place, group, mine)
        for place, group in enumerate(ranked, start=1)
        if place <= MAX_PLACES or group[0].spec.components == mine
    )
    widgets.html_block(
        '<div class="learn-question"><table><caption>What was tried within this budget, best first</caption><thead>'
        "<tr><th>place</th><th>setting</th><th>rate</th><th>parameters</th><th>seeds</th>"
        f"<th>test accuracy {formatting.PLUS_MINUS}</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )
    widgets.caption(
        f"{formatting.plural(len(runs), 'run')} within {params:,} parameters, read from the store of this "
        f"machine; means over "
        "seeds. The order of close rows is chance."
    )


def _score(group: Sequence[Run]) -> Interval:
    return interval([test_accuracy(run) for run in group], bounds=(0, 1))


def _place(place: int, group: Sequence[Run], mine: Components) -> str:
    run, score = group[0], _score(group)
    now = " ◂ your present design" if run.spec.components == mine else ""
    words = formatting.estimate(score.mean, score.low, score.high, score.n)
    mean = words.split(maxsplit=1)[0].rstrip(",")
    return (
        f"<tr><td>{place}</td><td>{widgets.method_chip_html(run.spec)}{now}</td><td>{run.spec.lr:g}</td>"
        f"<td>{run.num_params:,}</td><td>{len(group)}</td>"
        f'<td class="learn-score"><b>{mean}</b>{words.removeprefix(mean)}'
        f'<i style="width:{6 * score.mean:.2f}rem"></i></td></tr>'
    )


def draw_question(question: Question, revealed: bool) -> None:
    """The contest: the contestants first, the runs once a difference is predicted."""
    arms: tuple[Arm, ...] = question.draw
    budget = question.name.split("|")[0]
    if not revealed:
        widgets.html_block(_table(arms, solution(budget).budget_params))
        return
    rates = sorted({spec.lr for spec in arms[-1].specs})
    named = [(arm.name if arm.name != LORA else f"LoRA, rate {spec.lr:g}", spec) for arm in arms for spec in arm.specs]
    live.panel(
        "c6",
        f"{len(named)} real runs of {arms[0].specs[0].steps} steps: {NUM_SEEDS} seeds each, LoRA at "
        f"{len(rates)} rates. "
        "Curves are means over the seeds.",
        named,
        field=EVAL_ACCURACY,
        colours=[INKS[name.split(",")[0]] for name in dict.fromkeys(n for n, _ in named)],
        table=lambda runs: _results_table(arms, runs),
    )


def _results_table(arms: Sequence[Arm], named: Sequence[tuple[str, Run]]) -> str:
    """One row per contestant and rate: the runs done, then the mean test accuracy with its seeds; the rate that counts
    is marked."""
    runs = [run for _, run in named]
    final = results(data.store(), arms, runs) if len(runs) == sum(len(arm.specs) for arm in arms) else None
    rows = []
    for name in dict.fromkeys(name for name, _ in named):
        own = [run for other, run in named if other == name]
        scores = [score for score in map(test_accuracy, own) if score is not None]
        failed = [run for run in own if run.status == RunState.FAILED]
        if failed:
            shown = f"failed: {failed[0].error}"
        elif len(scores) < len(own):
            shown = f"{len(scores)} of {len(own)} done, " + live.state_of(
                next(r for r in own if test_accuracy(r) is None)
            )
        else:
            values = ", ".join(f"{score:.3f}" for score in scores)
            shown = f"<b>{np.mean(scores):.3f}</b> ({values})"
        arm = LORA if name.startswith(LORA) else name
        counts = final is not None and math.isclose(final[arm].lr, own[0].spec.lr)
        rows.append(
            f"<tr><td>{name}{' ◂ counts' if counts and arm == LORA else ''}</td>"
            f"<td>{widgets.method_chip_html(own[0].spec)}</td><td>{shown}</td></tr>"
        )
    return (
        '<div class="learn-question"><table><thead><tr><th></th><th>setting</th><th>test accuracy by seed</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
