"""The figures of chapter 4: alignment predicted and measured, its price, the spectra that limit it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from app import charts, theme, widgets
from app.learn import drawing
from app.learn.alignment import first_step
from app.learn.course import Page, Question, Values
from app.learn.drawing import bars_html
from app.learn.gradient import real_gradient
from app.learn.press import press
from cdka.components import Components
from cdka.theory import (
    best_capture,
    measured_alignment,
    predicted_alignment,
    rearrange,
    simulated_gradient,
    singular_values,
    spectrum_values,
)

SIDE = 128
INITS = 8
MANY_INITS = 32
RANGE = (1, 2, 4, 8, 16)
Spectrum = tuple[float, int]
"""A simulated gradient: its singular values are i^-fall for the first ``rank``, then zero."""
FALLS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
SPECTRA: dict[str, Spectrum] = {"all equal": (0.0, SIDE), "falling slowly": (0.5, SIDE), "falling fast": (1.0, SIDE)}
"""Those of the exercise."""
STEPS = {"gradient": "gradient", "Adam": "adam", "best in the span": "projection"}
"""The first step on the button, and its name in ``cdka.theory.alignment``."""


@lru_cache(maxsize=64)
def gradient(spectrum: Spectrum, seed: int) -> np.ndarray:
    """A simulated gradient of shape (128, 128) with the chosen spectrum."""
    fall, rank = spectrum
    return simulated_gradient(SIDE, SIDE, seed, values=spectrum_values(rank, "power", fall)).astype(np.float32)


def shape_of(values: Values) -> Spectrum:
    """The spectrum that the learner has set."""
    return values["fall"], values["rank"]


@lru_cache(maxsize=512)
def sweep(
    spectrum: Spectrum, seed: int, c: Components, name: str, step: str = "gradient", with_best: bool = True
) -> dict[str, np.ndarray]:
    """Alignment for every value of one of r1, r2, r: predicted, measured (mean and sd over inits), best possible.

    Without ``with_best`` the last, the slowest, is zero: for figures that do not show it.
    """
    rows = []
    for value in RANGE:
        d = Components(**{**{"r1": c.r1, "r2": c.r2, "r": c.r}, name: value})
        measured = measure(spectrum, seed, d, step)
        rows.append(
            (
                value,
                predicted_alignment(d, SIDE),
                measured.mean(),
                measured.std(ddof=1),
                best(spectrum, seed, d) if with_best else 0.0,
            )
        )
    columns = np.array(rows, dtype=np.float32).T
    return dict(zip(("value", "predicted", "measured", "sd", "best"), columns, strict=True))


@lru_cache(maxsize=2048)
def measure(spectrum: Spectrum, seed: int, c: Components, step: str) -> np.ndarray:
    """Measured alignment over INITS random starts."""
    G = gradient(spectrum, seed)
    return measured_alignment(G.astype(np.float64) if step == "projection" else G, c, rng=seed, inits=INITS, step=step)


@lru_cache(maxsize=2048)
def best(spectrum: Spectrum, seed: int, c: Components) -> float:
    """Best possible alignment."""
    return best_capture(gradient(spectrum, seed), c)


def now(values: Values) -> tuple[float, float, float]:
    """Predicted, measured (mean) and best possible alignment of the present setting."""
    c, spectrum, seed = Components(values["r1"], values["r2"], values["r"]), shape_of(values), values["seed"]
    measured = measure(spectrum, seed, c, STEPS[values["step"]])
    return predicted_alignment(c, SIDE), float(measured.mean()), best(spectrum, seed, c)


def draw(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    c, spectrum, seed = Components(values["r1"], values["r2"], values["r"]), shape_of(values), values["seed"]
    if page.view == "first":
        first_step.draw(values["p1"], values["p2"], values["added"], STEPS[values["step"]])
        return
    if page.view == "press":
        press.show(Components(values["p1"], values["p2"], values["pr"]), "press", "c4_press")
        widgets.caption(real_gradient().caption)
        return
    if page.view in ("curves", "best"):
        figure = curves(spectrum, seed, c, best=page.view == "best", step=STEPS[values["step"]])
        st.plotly_chart(
            figure,
            key="c4_curves",
            config=charts.PLOTLY_CONFIG,
            alt="Alignment against r1, r2 and r, predicted and measured",
        )
    if page.view == "less":
        st.plotly_chart(
            price(spectrum, seed, c),
            key="c4_price",
            config=charts.PLOTLY_CONFIG,
            alt="Alignment against parameters as r grows, beside LoRA",
        )
    if page.view in ("spectra", "best"):
        figure = spectra(spectrum, seed, c, height=470 if page.view == "spectra" else 210)
        st.plotly_chart(
            figure, key=f"c4_spectra_{page.view}", config=charts.PLOTLY_CONFIG, alt="Singular values of G and of R(G)"
        )
    predicted, measured, most = now(values)
    widgets.html_block(
        f"{widgets.chip_html(c)} predicted <b>{predicted:.3f}</b> · measured <b>{measured:.3f}</b>"
        + (f" · best possible <b>{most:.3f}</b>" if page.view in ("best", "spectra") else "")
        + f' <span class="cdka-quiet">({c.num_params(SIDE, SIDE):,} parameters)</span>'
    )
    widgets.caption(
        f"A simulated gradient of {SIDE} × {SIDE}, rank {spectrum[1]}, singular values falling as "
        f"i^-{spectrum[0]:g}, seed {seed}; measured: the first step '{values['step']}', mean and "
        f"standard deviation over "
        f"{INITS} random starts, cdka.theory.measured_alignment."
    )


def curves(spectrum: Spectrum, seed: int, c: Components, *, best: bool, step: str = "gradient") -> go.Figure:
    """Three panels with one scale: alignment against r1, r2 and r."""
    names = ("r1", "r2", "r")
    figure = make_subplots(1, 3, shared_yaxes=True, horizontal_spacing=0.04)
    for column, name in enumerate(names, start=1):
        found = sweep(spectrum, seed, c, name, step, with_best=best)
        colour = theme.COMPONENT_COLOURS[name]
        figure.add_scatter(
            x=found["value"],
            y=found["predicted"],
            mode="lines",
            line={"color": colour, "dash": "dash", "width": 2},
            name="predicted",
            row=1,
            col=column,
            hovertemplate=f"{name} %{{x}}: predicted %{{y:.3f}}<extra></extra>",
        )
        figure.add_scatter(
            x=found["value"],
            y=found["measured"],
            mode="markers",
            marker={"color": colour, "size": 10},
            error_y={"array": found["sd"], "color": colour, "thickness": 1.5},
            name="measured",
            row=1,
            col=column,
            hovertemplate=f"{name} %{{x}}: measured %{{y:.3f}}<extra></extra>",
        )
        if best:
            figure.add_scatter(
                x=found["value"],
                y=found["best"],
                mode="lines+markers",
                name="best possible",
                row=1,
                col=column,
                line={"color": theme.ink(), "width": 1.2},
                marker={"symbol": "x-thin-open", "size": 8, "color": theme.ink()},
                hovertemplate=f"{name} %{{x}}: best possible %{{y:.3f}}<extra></extra>",
            )
        here = list(RANGE).index(getattr(c, name))
        figure.add_scatter(
            x=[found["value"][here]],
            y=[found["measured"][here]],
            mode="markers",
            hoverinfo="skip",
            row=1,
            col=column,
            marker={"symbol": "circle-open", "size": 20, "color": theme.ink(), "line": {"width": 2.5}},
        )
        figure.update_xaxes(
            tickvals=[1, 4, 8, 16],
            range=[0, 17],
            row=1,
            col=column,
            title_text=name,
            title_font={"color": theme.letter(name)},
            zeroline=False,
        )
    figure.update_yaxes(range=[0, 1.05], zeroline=False)
    figure.update_yaxes(title_text="alignment with full fine-tuning", row=1, col=1)
    legend = "dashed: predicted · dots: measured" + (" · crosses: best possible" if best else "") + " · ring: yours"
    figure.update_layout(
        title={
            "text": f"Which of the three helps?<br><sup>{legend}</sup>",
            "x": 0,
            "xanchor": "left",
            "font": {"size": 15},
        },
        height=310 if best else 470,
        margin={"l": 10, "r": 10, "t": 64, "b": 10},
        showlegend=False,
        uirevision="c4",
    )
    return figure


def price(spectrum: Spectrum, seed: int, c: Components) -> go.Figure:
    """Alignment against parameters as r grows, for the present r1 and r2 and for LoRA; linear axes."""
    figure = charts.plotly(
        "Four times the parameters, twice the alignment", "trainable parameters of the layer", "alignment", height=440
    )
    designs = [(f"r1 {c.r1}, r2 {c.r2}", c.r1, c.r2, theme.R, "circle", "solid")]
    if (c.r1, c.r2) != (1, 1):
        designs.append(("LoRA", 1, 1, theme.LORA, "square", "dash"))
    for name, r1, r2, colour, symbol, dash in designs:
        row = [Components(r1, r2, r) for r in RANGE]
        params = np.array([d.num_params(SIDE, SIDE) for d in row], dtype=np.float32)
        dense = np.linspace(0, RANGE[-1], 80)
        figure.add_scatter(
            x=(params[0] * dense).astype(np.float32),
            mode="lines",
            hoverinfo="skip",
            y=np.minimum(1, np.sqrt(dense * r2 / (r1 * SIDE))).astype(np.float32),
            line={"color": colour, "dash": dash, "width": 2},
        )
        measured = np.array([measure(spectrum, seed, d, "gradient").mean() for d in row], dtype=np.float32)
        figure.add_scatter(
            x=params,
            y=measured,
            mode="markers+text",
            marker={"color": colour, "symbol": symbol, "size": 9},
            name=name,
            text=[f"r {r}" for r in RANGE],
            textposition="bottom right",
            hovertemplate=f"{name}, %{{text}}: %{{x:,}} parameters, measured %{{y:.3f}}<extra></extra>",
        )
        figure.add_annotation(
            x=float(params[-1]), y=float(measured[-1]), text=f"<b>{name}</b>", showarrow=False, yshift=16
        )
        if (r1, r2) == (c.r1, c.r2):
            here = RANGE.index(c.r)
            figure.add_scatter(
                x=[params[here]],
                y=[measured[here]],
                mode="markers",
                hoverinfo="skip",
                marker={"symbol": "circle-open", "size": 20, "color": theme.ink(), "line": {"width": 2.5}},
            )
    figure.update_xaxes(rangemode="tozero", tickformat=",")
    figure.update_yaxes(range=[0, 1.1])
    return figure


def spectra(spectrum: Spectrum, seed: int, c: Components, *, height: int = 470) -> go.Figure:
    """The energy (squared singular values) of G and of R(G), and the share that the r largest of R(G) hold."""
    G = gradient(spectrum, seed)
    rearranged = rearrange(G, c.r1, c.r2)
    held = best(spectrum, seed, c) ** 2
    rows, columns = rearranged.shape
    title = f"R(G) is {rows} × {columns}: its {c.r} largest hold {100 * held:.0f} % of the energy"
    figure = charts.plotly(
        title, "singular value, largest first", "share of the energy (of the squares)", height=height
    )
    shown = (
        ("G", singular_values(G), theme.LORA, "dash", "square"),
        ("R(G)", singular_values(rearranged), theme.R, "solid", "circle"),
    )
    most = 48
    for name, values, colour, dash, symbol in shown:
        shares = (values**2 / np.sum(values**2))[:most]
        figure.add_scatter(
            x=np.arange(1, len(shares) + 1, dtype=np.float32),
            y=shares.astype(np.float32),
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash, "width": 1.5},
            marker={"symbol": symbol, "size": 6},
            hovertemplate=f"{name}, value %{{x}}: %{{y:.4f}} of the energy<extra></extra>",
        )
        at = min(len(shares) - 1, 5)
        figure.add_annotation(
            x=at + 1,
            y=float(shares[at]),
            text=f"<b>{name}</b>",
            showarrow=False,
            yshift=14,
            xanchor="left",
            font={"color": colour},
        )
    figure.add_vrect(
        x0=0.5,
        x1=min(c.r, most) + 0.5,
        fillcolor=theme.R,
        opacity=0.14,
        line_width=0,
        annotation_text=f"r = {c.r}",
        annotation_position="top left",
    )
    figure.update_xaxes(range=[0, most + 4])
    figure.update_yaxes(rangemode="tozero")
    return figure


def judge(candidates: tuple[Components, ...], spectrum: Spectrum, seed: int) -> list[tuple[Components, float, float]]:
    """Each candidate with its predicted and its measured alignment, over many initialisations."""
    G = gradient(spectrum, seed)
    return [
        (c, predicted_alignment(c, SIDE), float(measured_alignment(G, c, rng=seed, inits=MANY_INITS).mean()))
        for c in candidates
    ]


def draw_question(question: Question, revealed: bool) -> None:
    """The exercise: four settings of about equal cost; their measured alignment appears when predicted."""
    rows = judge(question.draw["candidates"], question.draw["spectrum"], question.draw["seed"])
    most = max(measured for _, _, measured in rows)
    body = "".join(
        f"<tr><td>{widgets.chip_html(c)}</td><td>{c.num_params(SIDE, SIDE):,}</td><td>{c.rank_bound(SIDE, SIDE)}</td>"
        + (
            f"<td>{predicted:.3f}</td><td>{measured:.3f}{' ◂ best' if measured == most else ''}</td>"
            if revealed
            else '<td class="hide">?</td><td class="hide">?</td>'
        )
        + "</tr>"
        for c, predicted, measured in rows
    )
    widgets.html_block(
        '<div class="learn-question"><table><thead><tr><th>setting</th><th>parameters</th><th>rank up '
        "to</th><th>predicted</th>"
        f"<th>measured</th></tr></thead><tbody>{body}</tbody></table></div>"
    )
    if revealed:
        bars = [
            (widgets.chip_html(c), measured, f"{measured:.3f}", "kron" if measured == most else "full")
            for c, _, measured in rows
        ]
        widgets.html_block(bars_html(bars))
    else:
        drawing.placeholder("Make your prediction to reveal the measurements.")
    widgets.caption(
        f"On a simulated gradient of {SIDE} × {SIDE}; measured over {MANY_INITS} random initialisations each, "
        "cdka.theory.measured_alignment."
    )
