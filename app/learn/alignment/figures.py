"""The figures of chapter 4: alignment predicted and measured, its price, the spectra that limit it."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import charts, theme, widgets
from app.learn import drawing
from app.learn.alignment import first_step
from app.learn.alignment.numbers import (
    INITS,
    MANY_INITS,
    RANGE,
    SIDE,
    STEPS,
    Spectrum,
    best_of,
    gradient,
    judge,
    measure,
    now,
    shape_of,
    sweep,
)
from app.learn.course import Page, Question
from app.learn.drawing import bars_html
from app.learn.gradient import real_gradient
from app.learn.press import press
from cdka.components import Components
from cdka.theory import rearrange, singular_values


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
        charts.show(figure, "c4_curves", "Alignment against r1, r2 and r, predicted and measured")
    if page.view == "less":
        charts.show(price(spectrum, seed, c), "c4_price", "Alignment against parameters as r grows, beside LoRA")
    if page.view in ("spectra", "best"):
        figure = spectra(spectrum, seed, c, height=470 if page.view == "spectra" else 210)
        charts.show(figure, f"c4_spectra_{page.view}", "Singular values of G and of R(G)")
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
    data, axes = [], {}
    for panel, name in zip(("", "2", "3"), ("r1", "r2", "r"), strict=True):
        found = sweep(spectrum, seed, c, name, step, with_best=best)
        colour, here = theme.COMPONENT_COLOURS[name], RANGE.index(getattr(c, name))
        lines = [
            ("predicted", "lines", {"line": {"color": colour, "dash": "dash", "width": 2}}),
            (
                "measured",
                "markers",
                {
                    "marker": {"color": colour, "size": 10},
                    "error_y": {"array": found["sd"], "color": colour, "thickness": 1.5},
                },
            ),
        ]
        if best:
            cross = {"symbol": "x-thin-open", "size": 8, "color": theme.ink()}
            lines.append(("best", "lines+markers", {"line": {"color": theme.ink(), "width": 1.2}, "marker": cross}))
        for kind, mode, style in lines:
            words = "best possible" if kind == "best" else kind
            data.append(
                {
                    "x": found["value"],
                    "y": found[kind],
                    "mode": mode,
                    "name": words,
                    "xaxis": f"x{panel}",
                    "hovertemplate": f"{name} %{{x}}: {words} %{{y:.3f}}<extra></extra>",
                    **style,
                }
            )
        data.append(charts.ring(RANGE[here], float(found["measured"][here]), xaxis=f"x{panel}"))
        axes[f"xaxis{panel}"] = {
            "tickvals": [1, 4, 8, 16],
            "range": [0, 17],
            "title": {"text": name, "font": {"color": theme.letter(name)}},
            "zeroline": False,
        }
    legend = "dashed: predicted · dots: measured" + (" · crosses: best possible" if best else "") + " · ring: yours"
    return charts.plotly(
        f"Which of the three helps?<br><sup>{legend}</sup>",
        "",
        "alignment with full fine-tuning",
        data,
        height=310 if best else 470,
        grid={"rows": 1, "columns": 3, "subplots": [["xy", "x2y", "x3y"]], "xgap": 0.1},
        margin={"l": 10, "r": 10, "t": 64, "b": 10},
        yaxis={"range": [0, 1.05]},
        **axes,
    )


def price(spectrum: Spectrum, seed: int, c: Components) -> go.Figure:
    """Alignment against parameters as r grows, for the present r1 and r2 and for LoRA; linear axes."""
    designs = [(f"r1 {c.r1}, r2 {c.r2}", c.r1, c.r2, theme.R, "circle", "solid")]
    if (c.r1, c.r2) != (1, 1):
        designs.append(("LoRA", 1, 1, theme.LORA, "square", "dash"))
    data, names, dense = [], [], np.linspace(0, RANGE[-1], 80)
    for name, r1, r2, colour, symbol, dash in designs:
        row = [Components(r1, r2, r) for r in RANGE]
        params = np.array([d.num_params(SIDE, SIDE) for d in row], dtype=np.float32)
        measured = np.array([measure(spectrum, seed, d, "gradient").mean() for d in row], dtype=np.float32)
        data += [
            {
                "x": (params[0] * dense).astype(np.float32),
                "y": np.minimum(1, np.sqrt(dense * r2 / (r1 * SIDE))).astype(np.float32),
                "mode": "lines",
                "hoverinfo": "skip",
                "line": {"color": colour, "dash": dash, "width": 2},
            },
            {
                "x": params,
                "y": measured,
                "mode": "markers+text",
                "marker": {"color": colour, "symbol": symbol, "size": 9},
                "name": name,
                "text": [f"r {r}" for r in RANGE],
                "textposition": "bottom right",
                "hovertemplate": f"{name}, %{{text}}: %{{x:,}} parameters, measured %{{y:.3f}}<extra></extra>",
            },
        ]
        names.append(charts.label(float(params[-1]), float(measured[-1]), f"<b>{name}</b>", yshift=16))
        if (r1, r2) == (c.r1, c.r2):
            data.append(charts.ring(float(params[RANGE.index(c.r)]), float(measured[RANGE.index(c.r)])))
    return charts.plotly(
        "Four times the parameters, twice the alignment",
        "trainable parameters of the layer",
        "alignment",
        data,
        height=440,
        annotations=names,
        xaxis={"rangemode": "tozero", "tickformat": ","},
        yaxis={"range": [0, 1.1]},
    )


MAX_SHOWN = 48
"""Singular values that the figure shows."""


def spectra(spectrum: Spectrum, seed: int, c: Components, *, height: int = 470) -> go.Figure:
    """The energy (squared singular values) of G and of R(G), and the share that the r largest of R(G) hold."""
    G = gradient(spectrum, seed)
    rearranged = rearrange(G, c.r1, c.r2)
    held = best_of(spectrum, seed, c) ** 2
    rows, columns = rearranged.shape
    data, names = [], []
    for name, matrix, colour, dash, symbol in (
        ("G", G, theme.LORA, "dash", "square"),
        ("R(G)", rearranged, theme.R, "solid", "circle"),
    ):
        squares = singular_values(matrix) ** 2
        shares = (squares / squares.sum())[:MAX_SHOWN].astype(np.float32)
        data.append(
            {
                "x": np.arange(1, len(shares) + 1, dtype=np.float32),
                "y": shares,
                "mode": "lines+markers",
                "name": name,
                "line": {"color": colour, "dash": dash, "width": 1.5},
                "marker": {"symbol": symbol, "size": 6},
                "hovertemplate": f"{name}, value %{{x}}: %{{y:.4f}} of the energy<extra></extra>",
            }
        )
        at = min(len(shares) - 1, 5)
        place = {"yshift": 14, "xanchor": "left", "font": {"color": colour}}
        names.append(charts.label(at + 1, float(shares[at]), f"<b>{name}</b>", **place))
    held_by_r = {"type": "rect", "yref": "y domain", "x0": 0.5, "x1": min(c.r, MAX_SHOWN) + 0.5, "y0": 0, "y1": 1}
    names.append(charts.label(0.5, 1, f"r = {c.r}", yref="y domain", xanchor="left", yanchor="top"))
    return charts.plotly(
        f"R(G) is {rows} × {columns}: its {c.r} largest hold {100 * held:.0f} % of the energy",
        "singular value, largest first",
        "share of the energy (of the squares)",
        data,
        height=height,
        annotations=names,
        shapes=[{**held_by_r, "fillcolor": theme.R, "opacity": 0.14, "line": {"width": 0}}],
        xaxis={"range": [0, MAX_SHOWN + 4]},
        yaxis={"rangemode": "tozero"},
    )


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
