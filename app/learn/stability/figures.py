"""Chapter 5 as a picture: the output after one Adam step as r and r2 grow, by rule; and two real runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import charts, parts, words
from app.learn import live
from app.learn.course import Page, Question
from cdka.components import Components
from cdka.models.catalogue import find_model
from cdka.runs.metrics import EVAL_ACCURACY, TRAIN_LOSS
from cdka.runs.resolve import spec_for
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store
from cdka.theory import stability_experiment

SIDE = 512
VALUES = (1, 2, 4, 8, 16, 32, 64)
RULES = {"none": "none", "1/r": "r", "1/√r": "sqrt_r", "1/√(r r2)": "sqrt_r_r2"}
"""Name on the button: the rule's name in ``cdka.components``."""
TEX = {
    "none": "1",
    "r": r"\frac{1}{<r>}",
    "sqrt_r": r"\frac{1}{\sqrt{<r>}}",
    "sqrt_r_r2": r"\frac{1}{\sqrt{<r>\,<r2>}}",
}
GROW = ("r", "r2", "r and r2")
LOOK = {
    "none": ("#D55E00", "solid", "triangle-up"),
    "r": ("#CC79A7", "dot", "diamond"),
    "sqrt_r": ("#7A7F87", "dash", "square"),
    "sqrt_r_r2": ("#009E73", "solid", "circle"),
}
LR = 1e-3


def configuration(grow: str, value: int, r1: int) -> Components:
    """The configuration where the growing number has this value and the other is 1."""
    return Components(r1, value if grow != "r" else 1, value if grow != "r2" else 1)


@st.cache_data(max_entries=128, show_spinner=False)
def sizes(grow: str, r1: int, seed: int) -> dict[str, np.ndarray]:
    """Output RMS after one Adam step for every value and rule: arrays like VALUES."""
    configurations = [configuration(grow, value, r1) for value in VALUES]
    rows = stability_experiment(configurations, RULES.values(), SIDE, SIDE, alpha=1.0, lr=LR, seed=seed)
    return {
        rule: np.array([row.output_rms for row in rows if row.rule == rule], dtype=np.float32)
        for rule in RULES.values()
    }


def growth(grow: str, r1: int, seed: int, rule: str, top: int = VALUES[-1]) -> float:
    """How many times larger the output is at ``top`` than at 1."""
    found = sizes(grow, r1, seed)[rule]
    return float(found[VALUES.index(top)] / found[0])


def stage(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    if page.view == "runs":
        real_runs()
        return
    rule = RULES[values["rule"]] if page.view == "rules" else "none"
    shown = list(RULES.values()) if page.view == "rules" else ["none"]
    figure = chart(values["grow"], values["r1"], values["seed"], shown, rule)
    st.plotly_chart(
        figure, key="c5", config=charts.PLOTLY_CONFIG, alt="Output size after one Adam step, by scaling rule"
    )
    parts.caption(
        f"A layer of {SIDE} × {SIDE}, Gaussian gradient and inputs, alpha 1, learning rate {LR:g}, seed "
        f"{values['seed']}: "
        "cdka.theory.stability_experiment."
    )


def chart(grow: str, r1: int, seed: int, rules: list[str], bold: str) -> go.Figure:
    """Output RMS against the growing number, one line per rule, labelled at its end."""
    found = sizes(grow, r1, seed)
    times = growth(grow, r1, seed, bold)
    name = grow
    named = {rule: label for label, rule in RULES.items()}
    steady = 0.6 < times < 1.7
    finding = "the output keeps its size" if steady else f"{times:.3g} times the output at {name} = 64"
    title = f"Scaling {named[bold]}: {finding}"
    figure = charts.plotly(title, name, "RMS of the output after one step", height=490)
    for rule in rules:
        colour, dash, symbol = LOOK[rule]
        wide = rule == bold
        figure.add_scatter(
            x=np.array(VALUES, dtype=np.float32), y=found[rule], mode="lines+markers", name=named[rule],
            line={"color": colour, "dash": dash, "width": 3.5 if wide else 1.5},
            marker={"symbol": symbol, "size": 10 if wide else 6},
            hovertemplate=f"{named[rule]}, {name} %{{x}}: %{{y:.2e}}<extra></extra>",
        )  # fmt: skip
    rising = sorted(rules, key=lambda rule: found[rule][-1])
    heights = live.spread([float(np.log10(found[rule][-1])) for rule in rising], 0.19)
    for rule, height in zip(rising, heights, strict=True):
        label = named[rule].replace("none", "no scaling")
        figure.add_annotation(x=np.log10(VALUES[-1]), y=height, text=f"<b>{label}</b>" if rule == bold else label,
                              showarrow=False, xanchor="left", xshift=10)  # fmt: skip
    figure.update_xaxes(type="log", tickvals=list(VALUES), ticktext=[str(v) for v in VALUES],
                        range=[-0.05, np.log10(VALUES[-1]) + 0.42])  # fmt: skip
    figure.update_yaxes(type="log", range=[-5.2, -1.1], exponentformat="power", dtick=1)
    return figure


DEMO = Components(16, 64, 16)
MODEL, DEMO_TASK = "digits-vit", "digits"
DEMO_STEPS = 40
DEMO_SETTINGS = {"alpha": 64.0, "lr": 3e-4, "eval_every": 4, "schedule": "constant"}

SMOOTH = 5
"""The loss "in the end" is that of so many steps."""


def guessing() -> float:
    """The loss of a model that knows nothing: ln of the number of digits. A run whose loss passes it has diverged."""
    return math.log(dict(find_model(MODEL).details)["num_labels"])


def demo_specs(seed: int = 0) -> tuple[RunSpec, RunSpec]:
    """Two runs that differ in the scaling rule only: with the paper's scaling, and with none."""
    return tuple(
        spec_for(MODEL, DEMO_TASK, components=DEMO, scaling_rule=rule, steps=DEMO_STEPS, seed=seed, **DEMO_SETTINGS)
        for rule in ("sqrt_r_r2", "none")
    )  # fmt: skip


def told(store: Store, named: Sequence[tuple[str, Run]]) -> str:
    """What each run did, read from its curves; empty until all have ended."""
    if len(named) < 2 or any(not run.status.is_finished() for _, run in named):
        return ""
    return "\n\n".join(_one_told(store, name, run) for name, run in named)


def _one_told(store: Store, name: str, run: Run) -> str:
    if run.status == RunState.FAILED:
        return f"**{name.capitalize()}** the run failed: {run.error}."
    curve = store.curves([run.run_id])
    losses = curve.dropna(subset=[TRAIN_LOSS])
    right = curve[EVAL_ACCURACY].dropna()
    if losses.empty or right.empty:
        return ""
    worst, end = losses.loc[losses[TRAIN_LOSS].idxmax()], losses[TRAIN_LOSS].iloc[-SMOOTH:].mean()
    answers = (
        f"Right answers: {words.percent(right.iloc[0])} at the start, {words.percent(right.min())} at worst, "
        f"{words.percent(right.iloc[-1])} in the end."
    )
    if worst[TRAIN_LOSS] <= guessing():
        return (
            f"**{name.capitalize()}** the run is **stable**: the training loss is "
            f"{worst[TRAIN_LOSS]:.2f} at its highest. "
            f"{answers}"
        )
    return (
        f"**{name.capitalize()}** the run **diverges**: the training loss rises to {worst[TRAIN_LOSS]:.1f} (step "
        f"{int(worst['step'])}), past the {guessing():.1f} of guessing, and is {end:.1f} in the end. {answers}"
    )


def real_runs() -> None:
    """The two runs: the button that starts them, then their curves."""
    scaled, plain = demo_specs()
    live.panel(
        "c5", f"Two real runs of {DEMO_STEPS} steps: the same seed, data and numbers; only the scaling differs.",
        [("with 1/√(r r2)", scaled), ("without scaling", plain)], field=TRAIN_LOSS, told=told,
        level=("guessing", guessing()),
    )  # fmt: skip


def cover(question: Question, revealed: bool) -> None:
    """The exercise: the curve of the asked rule appears when predicted."""
    draw = question.draw
    if not revealed:
        parts.show('<div class="learn-covered">The curve appears when you have predicted.</div>')
        return
    figure = chart(draw["grow"], draw["r1"], draw["seed"], [draw["rule"]], draw["rule"])
    st.plotly_chart(figure, key="c5_answer", config=charts.PLOTLY_CONFIG, alt="Output size for the asked rule")
