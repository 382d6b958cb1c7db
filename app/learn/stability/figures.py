"""The figures of chapter 5: the output after one Adam step, by rule; trainings to watch; two real runs; rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import charts, theme, widgets
from app.learn import drawing, evidence, live
from app.learn.course import Page, Question
from app.learn.player import player
from app.learn.toy import Training
from cdka import formatting
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
    "none": (theme.R1, "solid", "triangle-up"),
    "r": (theme.LOKR, "dot", "diamond"),
    "sqrt_r": (theme.LORA, "dash", "square"),
    "sqrt_r_r2": (theme.R, "solid", "circle"),
}
LR = 1e-3
TOKENS = 16
"""The tokens that make the gradient where the batch matters."""
INPUTS = {"new inputs": "new", "the training batch": "batch"}
"""Name on the button: its name in ``cdka.theory.stability``."""
DRAWS, ASKED_SIDE, ASKED_R1 = 32, 256, 16
"""The exercise: random draws, the side of the layer, and r1, large enough that no component lacks room."""
TOY, TOY_ALPHA = Components(4, 16, 8), 16.0
TOY_ARMS = (("with 1/√(r r2)", "sqrt_r_r2"), ("without", "none"))
TOY_RATES = ("0.001", "0.003", "0.01", "0.03", "0.1")


def configuration(grow: str, value: int, r1: int) -> Components:
    """The configuration where the growing number has this value and the other is 1."""
    return Components(r1, value if grow != "r" else 1, value if grow != "r2" else 1)


@lru_cache(maxsize=256)
def sizes(grow: str, r1: int, seed: int, inputs: str | None = None) -> dict[str, np.ndarray]:
    """Output RMS after one Adam step for every value and rule: arrays like VALUES.

    ``inputs`` None: a gradient without structure and new inputs. Else the gradient is that of TOKENS tokens, and the
    inputs are new ones or that batch.
    """
    configurations = [configuration(grow, value, r1) for value in VALUES]
    rows = stability_experiment(
        configurations,
        RULES.values(),
        SIDE,
        SIDE,
        alpha=1.0,
        lr=LR,
        seed=seed,
        gradient_tokens=None if inputs is None else TOKENS,
        inputs="new" if inputs is None else INPUTS[inputs],
    )
    return {
        rule: np.array([row.output_rms for row in rows if row.rule == rule], dtype=np.float32)
        for rule in RULES.values()
    }


def growth(grow: str, r1: int, seed: int, rule: str, top: int = VALUES[-1], inputs: str | None = None) -> float:
    """The output at ``top`` divided by that at 1."""
    found = sizes(grow, r1, seed, inputs)[rule]
    return float(found[VALUES.index(top)] / found[0])


@lru_cache(maxsize=256)
def draws(grow: str, rule: str, top: int, seed: int) -> np.ndarray:
    """The growth from 1 to ``top`` for each of DRAWS random draws of gradient, A and inputs."""
    small, large = configuration(grow, 1, ASKED_R1), configuration(grow, top, ASKED_R1)
    ratios = []
    for draw in range(DRAWS):
        first, second = stability_experiment(
            [small, large], [rule], ASKED_SIDE, ASKED_SIDE, lr=LR, seed=seed + 10_000 * draw
        )
        ratios.append(second.output_rms / first.output_rms)
    return np.array(ratios)


def draw(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    if page.view == "runs":
        real_runs()
        return
    if page.view == "rates":
        rates(values["study"])
        return
    if page.view == "toy":
        lr = float(values["toy_lr"])
        player("c5", lr, lambda: [(name, Training(TOY, rule=rule, alpha=TOY_ALPHA, lr=lr)) for name, rule in TOY_ARMS])
        widgets.caption(
            f"A network of 64 × 64 and 10 × 64, batches of 64 digits, r1 {TOY.r1}, r2 {TOY.r2}, r {TOY.r}, alpha "
            f"{TOY_ALPHA:g}, learning rate {lr:g}, seed 0; computed in NumPy by this page, one seed."
        )
        return
    inputs = values["inputs"] if page.view == "terms" else None
    grow = values["both" if page.view == "terms" else "grow"]
    rule = {"one": "none", "rules": RULES[values["rule"]], "terms": RULES[values["own"]]}[page.view]
    shown = ["none"] if page.view == "one" else list(RULES.values())
    figure = chart(grow, values["r1"], values["seed"], shown, rule, inputs)
    charts.show(figure, "c5", "Output size after one Adam step, by scaling rule")
    source = "Gaussian gradient and inputs" if inputs is None else f"the gradient of {TOKENS} tokens, {inputs}"
    widgets.caption(
        f"A layer of {SIDE} × {SIDE}, {source}, alpha 1, learning rate {LR:g}, seed {values['seed']}: "
        "cdka.theory.stability_experiment."
    )


def chart(grow: str, r1: int, seed: int, rules: list[str], bold: str, inputs: str | None = None) -> go.Figure:
    """Output RMS against the growing number, one line per rule, labelled at its end."""
    found = sizes(grow, r1, seed, inputs)
    times = growth(grow, r1, seed, bold, inputs=inputs)
    named = {rule: label for label, rule in RULES.items()}
    finding = "output stays level" if 0.6 < times < 1.7 else f"output × {times:.3g}"
    where = "" if inputs is None else f", {inputs}"
    data = []
    for rule in rules:
        colour, dash, symbol = LOOK[rule]
        wide = rule == bold
        data.append(
            {
                "x": np.array(VALUES, dtype=np.float32),
                "y": found[rule],
                "mode": "lines+markers",
                "name": named[rule],
                "line": {"color": colour, "dash": dash, "width": 3.5 if wide else 1.5},
                "marker": {"symbol": symbol, "size": 10 if wide else 6},
                "hovertemplate": f"{named[rule]}, {grow} %{{x}}: %{{y:.2e}}<extra></extra>",
            }
        )
    rising = sorted(rules, key=lambda rule: found[rule][-1])
    heights = live.spread([float(np.log10(found[rule][-1])) for rule in rising], 0.26)
    end = float(np.log10(VALUES[-1]))
    names = []
    for rule, height in zip(rising, heights, strict=True):
        label = named[rule].replace("none", "no scaling")
        text = f"<b>{label}</b>" if rule == bold else label
        names.append(charts.label(end, height, text, xanchor="left", xshift=10))
    return charts.plotly(
        f"{named[bold]}{where}: {finding}".replace("none", "No scaling"),
        grow,
        "RMS of the output after one step",
        data,
        height=490,
        annotations=names,
        xaxis={"type": "log", "tickvals": VALUES, "ticktext": [str(v) for v in VALUES], "range": [-0.05, end + 0.42]},
        yaxis={"type": "log", "range": [-5.2, -0.6], "exponentformat": "power", "dtick": 1},
    )


def rates(study: str) -> None:
    """Accuracy against learning rate for every design of a shipped study, the best rate of each marked."""
    arms = evidence.rate_studies().get(study)
    if not arms:
        drawing.placeholder("No report with several learning rates ships with this version.")
        return
    charts.show(
        evidence.rates_figure(arms), "c5_rates", "Test accuracy against learning rate by design, from a shipped study"
    )
    report = dict((path.stem, document) for path, document in evidence.shipped())[study]
    reason = evidence.withdrawn(study)
    widgets.caption(
        f"Report {study}: {report['model']} on {report['task']}, {report['date']}; means and 95 % intervals over "
        f"{max(arm.seeds for arm in arms)} seeds, cut at 0 and 1. Rings: the highest mean of each design. Read from "
        "assets/studies." + (f" The claim of this report is withdrawn as stated: {reason}" if reason else "")
    )
    widgets.html_block(evidence.over_bases_html())


DEMO = Components(16, 64, 16)
MODEL, DEMO_TASK = "digits-vit", "digits"
DEMO_STEPS = 40
DEMO_SETTINGS = {"alpha": 64.0, "lr": 3e-4, "eval_every": 4, "schedule": "constant"}

SMOOTH = 5
"""The loss "in the end" is that of so many steps."""


def guessing() -> float:
    """The loss of pure guessing: ln of the number of digits. A run whose loss passes it has diverged."""
    return math.log(dict(find_model(MODEL).details)["num_labels"])


def demo_specs(seed: int = 0) -> tuple[RunSpec, RunSpec]:
    """Two runs that differ in the scaling rule only: with the paper's scaling, and with none."""
    scaled, plain = (
        spec_for(MODEL, DEMO_TASK, components=DEMO, scaling_rule=rule, steps=DEMO_STEPS, seed=seed, **DEMO_SETTINGS)
        for rule in ("sqrt_r_r2", "none")
    )
    return scaled, plain


def outcome(store: Store, named: Sequence[tuple[str, Run]]) -> str:
    """One sentence on each run, read from its curves; empty until all have ended."""
    if len(named) < 2 or any(not run.status.is_finished() for _, run in named):
        return ""
    return "\n\n".join(_one_outcome(store, name, run) for name, run in named)


def _one_outcome(store: Store, name: str, run: Run) -> str:
    if run.status == RunState.FAILED:
        return f"**{name.capitalize()}** the run failed: {run.error}."
    curve = store.curves([run.run_id])
    losses = curve.dropna(subset=[TRAIN_LOSS])
    right = curve[EVAL_ACCURACY].dropna()
    if losses.empty or right.empty:
        return ""
    worst, end = losses.loc[losses[TRAIN_LOSS].idxmax()], losses[TRAIN_LOSS].iloc[-SMOOTH:].mean()
    answers = (
        f"Right answers: {formatting.percent(right.iloc[0])} at the start, {formatting.percent(right.min())} at worst, "
        f"{formatting.percent(right.iloc[-1])} in the end."
    )
    if worst[TRAIN_LOSS] <= guessing():
        return (
            f"**{name.capitalize()}** the run is **stable**: the training loss is {worst[TRAIN_LOSS]:.2f} at its "
            f"highest. {answers}"
        )
    return (
        f"**{name.capitalize()}** the run **diverges**: the training loss rises to {worst[TRAIN_LOSS]:.1f} (step "
        f"{int(worst['step'])}), past the {guessing():.1f} of guessing, and is {end:.1f} in the end. {answers}"
    )


def real_runs() -> None:
    """The two runs: the button that starts them, then their curves."""
    scaled, plain = demo_specs()
    live.panel(
        "c5",
        f"Two real runs of {DEMO_STEPS} steps: the same seed, data and numbers; only the scaling differs.",
        [("with 1/√(r r2)", scaled), ("without scaling", plain)],
        field=TRAIN_LOSS,
        outcome=outcome,
        level=("guessing", guessing()),
    )


def draw_question(question: Question, revealed: bool) -> None:
    """The exercise: the random draws appear once predicted."""
    asked = question.draw
    if not revealed:
        drawing.placeholder("Make your prediction to reveal the measurements.")
        return
    found = np.sort(draws(*asked))
    grow, rule, top, _ = asked
    mean, name = charts.level(float(found.mean()), "mean", ink=theme.ink(), place="top left", dash="dash")
    dots = {
        "x": np.arange(1, DRAWS + 1, dtype=np.float32),
        "y": found.astype(np.float32),
        "mode": "markers",
        "marker": {"color": LOOK[rule][0], "size": 9},
        "hovertemplate": "%{y:.3g} times<extra></extra>",
    }
    figure = charts.plotly(
        f"{DRAWS} random draws: {found.mean():.3g} times on average",
        "draw, in order of size",
        f"output at {grow} = {top}, as a multiple of that at 1",
        [dots],
        height=420,
        shapes=[mean],
        annotations=[name],
        yaxis={"rangemode": "tozero"},
    )
    charts.show(figure, "c5_answer", "The growth of the output in every random draw")
