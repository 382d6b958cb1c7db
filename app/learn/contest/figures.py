"""Chapter 6 as a picture: the contestants, the field of everything that fits the budget, the runs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import charts, data, parts, theme, words
from app.learn import live
from app.learn.contest.arms import NAMES, Arm, arms, solution, tried, whose
from app.learn.course import Page, Question
from cdka.components import Components
from cdka.runs.metrics import EVAL_ACCURACY, TEST_ACCURACY
from cdka.runs.run import Run
from cdka.tasks import digits

INKS = dict(zip(NAMES, (theme.R, theme.R2, theme.LORA), strict=True))
"""The contestants keep their colours from the field to the curves."""


def design(values: dict[str, Any]) -> Components:
    """The learner's design."""
    return Components(values["r1"], values["r2"], values["r"])


def stage(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    budget, c = values["budget"], design(values)
    if page.view == "tried":
        leaderboard(budget, c)
        return
    contest = arms(budget, c, values["seed"])
    if page.view == "design":
        parts.show(digits_html(values["seed"]))
    else:
        st.plotly_chart(field(budget, contest), key="c6_field", config=charts.PLOTLY_CONFIG,
                        alt="Alignment and rank of every configuration within the budget")  # fmt: skip
    parts.show(_contest(contest, solution(budget).budget_params))
    parts.caption(f"Counted and predicted by cdka.solver for all linear layers of digits-vit; budget {budget}.")


def digits_html(seed: int) -> str:
    """One training digit of each label, as the model knows it and as the task shows it."""
    upright = digits.images(digits.samples(seed))
    rows = (("What it reads now", upright), ("What it must learn to read", digits.shift(upright)))
    return '<div class="learn-digits">' + "".join(
        f'<span>{words_}</span>{strip_svg(pictures, f"{words_}: the digits 0 to 9")}' for words_, pictures in rows
    ) + "</div>"  # fmt: skip


def strip_svg(pictures: np.ndarray, told: str) -> str:
    """Images of (n, 8, 8) in [0, 1] side by side; 0 is black. Neighbours of one grey in a row share a rectangle."""
    rects = []
    for index, picture in enumerate(pictures):
        for y, row in enumerate(np.round(picture * 15).astype(int)):
            edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
            for left, right in pairwise(edges):
                grey = f"{row[left]:x}" * 3
                rects.append(f'<rect x="{index * 9 + left}" y="{y}" width="{right - left}" height="1" fill="#{grey}"/>')
    return (
        f'<svg viewBox="0 0 {9 * len(pictures) - 1} 8" role="img" aria-label="{told}" shape-rendering="crispEdges">'
        f"{''.join(rects)}</svg>"
    )


def _contest(contest: tuple[Arm, ...], budget_params: int) -> str:
    rows = "".join(
        f"<tr><td>{arm.name}</td><td>{parts.method_chip_html(arm.spec)}</td><td>{arm.option.num_params:,} "
        f'<span class="cdka-quiet">({words.percent(arm.option.num_params / budget_params)} of the budget)</span></td>'
        f"<td>{arm.option.alignment:.3f}</td><td>{arm.option.rank_bound}</td>"
        f"<td>{words.percent(arm.option.flops_overhead)}</td></tr>"
        for arm in contest
    )
    return (
        '<div class="learn-question"><table><thead><tr><th></th><th>setting</th><th>parameters</th><th>alignment</th>'
        f"<th>rank up to</th><th>more arithmetic</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def field(budget: str, contest: tuple[Arm, ...]) -> go.Figure:
    """Predicted alignment against rank bound for all that fits the budget; the contestants named."""
    columns = solution(budget).columns
    figure = charts.plotly(
        f"{len(columns)} settings fit: which corner would you choose?", "rank that ΔW can reach, mean over layers",
        "predicted alignment", height=400,
    )  # fmt: skip
    text = [f"r1 {a} · r2 {b} · r {k}" for a, b, k in zip(columns.r1, columns.r2, columns.r, strict=True)]
    figure.add_scatter(
        x=np.asarray(columns.rank_bound, dtype=np.float32), y=np.asarray(columns.alignment, dtype=np.float32), 
        mode="markers", marker={"color": theme.R, "size": 8, "opacity": 0.4}, text=text,
        hovertemplate="%{text}<br>rank %{x}, alignment %{y:.3f}<extra></extra>",
    )  # fmt: skip
    places = {
        "Mine": ("top right", "circle"),
        "The solver's": ("bottom left", "diamond"),
        "LoRA": ("bottom right", "square"),
    }
    for arm in contest:
        where, symbol = places[arm.name]
        figure.add_scatter(
            x=[arm.option.rank_bound], y=[arm.option.alignment], mode="markers+text",
            text=[f"<b>{arm.name}</b>"], textposition=where, hoverinfo="skip",
            marker={"symbol": symbol, "size": 15, "color": INKS[arm.name],
                    "line": {"color": theme.ink(), "width": 2.5}},
        )  # fmt: skip
    top = float(np.max(columns.alignment))
    figure.update_yaxes(range=[0, 1.2 * top])
    figure.update_xaxes(range=[-6, 150])
    return figure


def within(budget: str) -> list[Run]:
    """Every run of this contest that keeps to the budget."""
    params = solution(budget).budget_params
    return [run for run in tried(data.store()) if run.num_params is not None and run.num_params <= params]


def leaderboard(budget: str, mine: Components) -> None:
    """Every design tried so far under this budget on this machine, best first; the present one is marked."""
    params, runs = solution(budget).budget_params, within(budget)
    if not runs:
        parts.show(
            '<div class="learn-covered">Nothing has been trained under this budget yet. The next page does it.</div>'
        )
        return
    runs.sort(key=lambda run: -run.metrics[TEST_ACCURACY])
    rows = "".join(_place(place, run, mine) for place, run in enumerate(runs, start=1) if _shown(place, run, mine))
    parts.show(
        '<div class="learn-question"><table><caption>What was tried within this budget, best first</caption><thead>'
        "<tr><th>place</th><th>whose</th><th>setting</th><th>parameters</th><th>seed</th><th>test accuracy</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )
    parts.caption(
        f"{words.plural(len(runs), 'run')} within {params:,} parameters, read from the store of this machine. "
        "One row is one seed."
    )


SHOWN_PLACES = 10


def _shown(place: int, run: Run, mine: Components) -> bool:
    return place <= SHOWN_PLACES or run.spec.components == mine


def _place(place: int, run: Run, mine: Components) -> str:
    accuracy = run.metrics[TEST_ACCURACY]
    now = " ◂ your present design" if run.spec.components == mine else ""
    return (
        f"<tr><td>{place}</td><td>{whose(run)}</td><td>{parts.method_chip_html(run.spec)}{now}</td>"
        f"<td>{run.num_params:,}</td><td>{run.spec.seed}</td>"
        f'<td class="learn-score"><b>{accuracy:.3f}</b><i style="width:{6 * accuracy:.2f}rem"></i></td></tr>'
    )


def cover(question: Question, revealed: bool) -> None:
    """The contest: the contestants first, the runs once a winner is predicted."""
    contest: tuple[Arm, ...] = question.draw
    if not revealed:
        parts.show(_contest(contest, solution(question.name.split("|")[0]).budget_params))
        return
    live.panel(
        "c6", f"Three real runs of {contest[0].spec.steps} steps with the same recipe and seed {contest[0].spec.seed}.",
        [(name, arm.spec) for name, arm in zip(NAMES, contest, strict=True)], field=EVAL_ACCURACY,
        colours=[INKS[name] for name in NAMES],
    )  # fmt: skip
    budget = question.name.split("|")[0]
    if len(within(budget)) > len(contest):  # else it would say what the table above says
        leaderboard(budget, contest[0].option.components)
