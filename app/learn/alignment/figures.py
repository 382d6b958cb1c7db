"""Chapter 4 as a picture: alignment against each of r1, r2, r, predicted and measured; the spectra that decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from app import charts, parts, theme
from app.learn.bars import bars_html
from app.learn.course import Page, Question
from cdka.components import Components
from cdka.theory import (
    best_capture,
    measured_alignment,
    predicted_alignment,
    rearrange,
    report,
    simulated_gradient,
    singular_values,
    spectrum_values,
)

SIDE = 128
INITS = 8
MANY_INITS = 32
RANGE = (1, 2, 4, 8, 16)
Spectrum = tuple[float, int]
"""How a simulated gradient looks: its singular values are i^-fall for the first ``rank``, then zero."""
FALLS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
SPECTRA: dict[str, Spectrum] = {"flat": (0.0, SIDE), "slowly falling": (0.5, SIDE), "fast falling": (1.0, SIDE)}
"""Those of the exercise."""


@st.cache_data(max_entries=64, show_spinner=False)
def gradient(spectrum: Spectrum, seed: int) -> np.ndarray:
    """A simulated gradient of shape (128, 128) with the chosen spectrum."""
    fall, rank = spectrum
    return simulated_gradient(SIDE, SIDE, seed, values=spectrum_values(rank, "power", fall)).astype(np.float32)


def shape_of(values: dict[str, Any]) -> Spectrum:
    """The spectrum that the learner has set."""
    return values["fall"], values["rank"]


@st.cache_data(max_entries=512, show_spinner=False)
def sweep(spectrum: Spectrum, seed: int, c: Components, name: str) -> dict[str, np.ndarray]:
    """Alignment for every value of one of r1, r2, r: predicted, measured (mean and sd over inits), best possible."""
    G = gradient(spectrum, seed)
    rows = []
    for value in RANGE:
        d = Components(**{**{"r1": c.r1, "r2": c.r2, "r": c.r}, name: value})
        found = report(G, d, rng=seed, inits=INITS)
        rows.append((value, found.predicted, found.measured_mean, found.measured_sd, found.best))
    columns = np.array(rows, dtype=np.float32).T
    return dict(zip(("value", "predicted", "measured", "sd", "best"), columns, strict=True))


def now(values: dict[str, Any]) -> tuple[float, float, float]:
    """Predicted, measured (mean) and best possible alignment of the present setting."""
    c = Components(values["r1"], values["r2"], values["r"])
    found = report(gradient(shape_of(values), values["seed"]), c, rng=values["seed"], inits=INITS)
    return found.predicted, found.measured_mean, found.best


def stage(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    c, spectrum, seed = Components(values["r1"], values["r2"], values["r"]), shape_of(values), values["seed"]
    if page.view in ("curves", "best"):
        best = page.view == "best"
        st.plotly_chart(curves(spectrum, seed, c, best=best), key="c4_curves", config=charts.PLOTLY_CONFIG,
                        alt="Alignment against r1, r2 and r, predicted and measured")  # fmt: skip
    if page.view in ("spectra", "best"):
        figure = spectra(spectrum, seed, c, height=470 if page.view == "spectra" else 210)
        st.plotly_chart(figure, key=f"c4_spectra_{page.view}", config=charts.PLOTLY_CONFIG,
                        alt="Singular values of G and of R(G)")  # fmt: skip
    predicted, measured, best = now(values)
    parts.show(
        f"{parts.chip_html(c)} predicted <b>{predicted:.3f}</b> · measured <b>{measured:.3f}</b>"
        + (f" · best possible <b>{best:.3f}</b>" if page.view in ("best", "spectra") else "")
        + f' <span class="cdka-quiet">({c.num_params(SIDE, SIDE):,} parameters)</span>'
    )
    parts.caption(
        f"A simulated gradient of {SIDE} × {SIDE}, rank {spectrum[1]}, singular values falling as "
        f"i^-{spectrum[0]:g}, seed {seed}; measured: mean and standard deviation over {INITS} random "
        "initialisations, cdka.theory.measured_alignment."
    )


def curves(spectrum: Spectrum, seed: int, c: Components, *, best: bool) -> go.Figure:
    """Three panels with one scale: alignment against r1, r2 and r."""
    names = ("r1", "r2", "r")
    figure = make_subplots(1, 3, shared_yaxes=True, horizontal_spacing=0.04)
    for column, name in enumerate(names, start=1):
        found = sweep(spectrum, seed, c, name)
        colour = theme.COMPONENT_COLOURS[name]
        figure.add_scatter(
            x=found["value"], y=found["predicted"], mode="lines", line={"color": colour, "dash": "dash", "width": 2},
            name="predicted", row=1, col=column, hovertemplate=f"{name} %{{x}}: predicted %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=found["value"], y=found["measured"], mode="markers", marker={"color": colour, "size": 10},
            error_y={"array": found["sd"], "color": colour, "thickness": 1.5}, name="measured", row=1, col=column,
            hovertemplate=f"{name} %{{x}}: measured %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        if best:
            figure.add_scatter(
                x=found["value"], y=found["best"], mode="lines+markers", name="best possible", row=1, col=column,
                line={"color": theme.ink(), "width": 1.2},
                marker={"symbol": "x-thin-open", "size": 8, "color": theme.ink()},
                hovertemplate=f"{name} %{{x}}: best possible %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
        here = list(RANGE).index(getattr(c, name))
        figure.add_scatter(
            x=[found["value"][here]], y=[found["measured"][here]], mode="markers", hoverinfo="skip", row=1, col=column,
            marker={"symbol": "circle-open", "size": 20, "color": theme.ink(), "line": {"width": 2.5}},
        )  # fmt: skip
        figure.update_xaxes(type="log", tickvals=list(RANGE), ticktext=[str(n) for n in RANGE], row=1, col=column,
                            title_text=name, title_font={"color": theme.letter(name)}, zeroline=False)  # fmt: skip
    figure.update_yaxes(range=[0, 1.05], zeroline=False)
    figure.update_yaxes(title_text="alignment with full fine-tuning", row=1, col=1)
    legend = "dashed: predicted · dots: measured" + (" · crosses: best possible" if best else "") + " · ring: yours"
    figure.update_layout(
        title={
            "text": f"Which of the three helps?<br><sup>{legend}</sup>", "x": 0, "xanchor": "left", "font": {"size": 15}
        },
        height=310 if best else 470, margin={"l": 10, "r": 10, "t": 64, "b": 10}, showlegend=False, uirevision="c4",
    )  # fmt: skip
    return figure


def spectra(spectrum: Spectrum, seed: int, c: Components, *, height: int = 470) -> go.Figure:
    """Singular values of G and of R(G), and the share that the r largest of R(G) hold."""
    G = gradient(spectrum, seed)
    rearranged = rearrange(G, c.r1, c.r2)
    held = best_capture(G, c) ** 2
    rows, columns = rearranged.shape
    title = f"R(G) is {rows} × {columns}: its {c.r} largest hold {100 * held:.0f} % of all squares"
    figure = charts.plotly(title, "singular value, largest first", "size, as a share of all", height=height)
    shown = (
        ("G", singular_values(G), theme.LORA, "dash", "square"),
        ("R(G)", singular_values(rearranged), theme.R, "solid", "circle"),
    )
    most = 48
    for name, values, colour, dash, symbol in shown:
        values = (values / np.linalg.norm(values))[:most]
        figure.add_scatter(
            x=np.arange(1, len(values) + 1, dtype=np.float32), y=values.astype(np.float32), mode="lines+markers",
            name=name, line={"color": colour, "dash": dash, "width": 1.5}, marker={"symbol": symbol, "size": 6},
            hovertemplate=f"{name}, value %{{x}}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        figure.add_annotation(
            x=len(values), y=float(values[-1]), text=name, showarrow=False, xshift=18, font={"color": colour}
        )
    figure.add_vrect(x0=0.5, x1=min(c.r, most) + 0.5, fillcolor=theme.R, opacity=0.14, line_width=0,
                     annotation_text=f"r = {c.r}", annotation_position="top left")  # fmt: skip
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


def cover(question: Question, revealed: bool) -> None:
    """The exercise: four settings of about equal cost; their measured alignment appears when predicted."""
    rows = judge(question.draw["candidates"], question.draw["spectrum"], question.draw["seed"])
    most = max(measured for _, _, measured in rows)
    body = "".join(
        f"<tr><td>{parts.chip_html(c)}</td><td>{c.num_params(SIDE, SIDE):,}</td><td>{c.rank_bound(SIDE, SIDE)}</td>"
        + (
            f"<td>{predicted:.3f}</td><td>{measured:.3f}{' ◂ best' if measured == most else ''}</td>"
            if revealed
            else '<td class="hide">?</td><td class="hide">?</td>'
        )
        + "</tr>"
        for c, predicted, measured in rows
    )
    parts.show(
        '<div class="learn-question"><table><thead><tr><th>setting</th><th>parameters</th><th>rank up '
        "to</th><th>predicted</th>"
        f"<th>measured</th></tr></thead><tbody>{body}</tbody></table></div>"
    )
    if revealed:
        bars = [
            (parts.chip_html(c), measured, f"{measured:.3f}", "kron" if measured == most else "full")
            for c, _, measured in rows
        ]
        parts.show(bars_html(bars))
    else:
        parts.show('<div class="learn-covered">What each one catches appears when you have predicted.</div>')
    parts.caption(
        f"On a simulated gradient of {SIDE} × {SIDE}; measured over {MANY_INITS} random initialisations each, "
        "cdka.theory.measured_alignment."
    )
