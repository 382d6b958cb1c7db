"""Chapter 2 as a picture: the factors to scale, the values of delta W, its singular values beside LoRA's."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import charts, parts, theme, words
from app.design.picture import option_svg
from app.learn.course import Page, Question
from cdka.components import Components
from cdka.theory import delta_weight, kaiming_components, numerical_rank, singular_values

OUT, IN = 48, 64


def delta(c: Components, seed: int) -> np.ndarray:
    """A delta W of shape (48, 64) with random factors, as after training; scaling for alpha = 1."""
    rng = np.random.default_rng(seed)
    A = kaiming_components(c, IN, rng)
    B = rng.standard_normal(c.shapes(OUT, IN)[1])
    return delta_weight(A, B, c.scaling(1.0))


def measured_rank(c: Components, seed: int) -> int:
    """How many singular values of such a delta W are not zero."""
    return numerical_rank(delta(c, seed))


def lora_rank(c: Components) -> int:
    """The LoRA rank whose cost is nearest from below (0: even rank 1 costs more)."""
    return c.num_params(OUT, IN) // Components(1, 1, 1).num_params(OUT, IN)


def stage(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    c = Components(values["r1"], values["r2"], values["r"])
    matrix = delta(c, values["seed"])
    _pair(option_svg(c, OUT, IN, lora_rank(c), "this layer"), c, numerical_rank(matrix))
    figure = heatmap(matrix, c) if page.view == "matrix" else spectrum(c, values["seed"])
    alt = "Values of delta W" if page.view == "matrix" else "Singular values of delta W beside those of LoRA"
    st.plotly_chart(figure, key=f"c2_{page.view}", config=charts.PLOTLY_CONFIG, alt=alt)


def _pair(picture: str, c: Components, rank: int | None) -> None:
    """The drawing, and the numbers beside it; ``rank`` is None while it is asked for."""
    left, right = st.container(key="learn-pair").columns([3, 2], gap="medium")
    with left:
        parts.show(picture)
    lora = lora_rank(c)
    beside = f"LoRA of rank {lora} costs {lora * (OUT + IN):,}" if lora else "even LoRA of rank 1 costs more"
    found = "?" if rank is None else str(rank)
    with right:
        parts.show(
            f'{parts.chip_html(c)}<dl class="learn-facts">'
            f"<dt>{parts.count_html(c.num_params(OUT, IN), 'parameters')}</dt><dd>{beside}</dd>"
            f"<dt>rank <b>{found}</b> of {min(OUT, IN)}</dt><dd>singular values of ΔW that are not zero</dd></dl>"
        )


def heatmap(matrix: np.ndarray, c: Components) -> go.Figure:
    """The values of delta W with the block boundaries."""
    most = float(np.abs(matrix).max())
    figure = charts.plotly(
        f"ΔW: {words.plural(c.r, 'block')} repeated and summed" if c.r > 1 else "ΔW: one block repeated",
        "input",
        "output",
        height=300,
    )
    scale = [[k / (len(theme.DIVERGING) - 1), colour] for k, colour in enumerate(theme.DIVERGING)]
    figure.add_heatmap(z=matrix.astype(np.float32), zmin=-most, zmax=most, colorscale=scale, showscale=False,
                       hovertemplate="output %{y}, input %{x}: %{z:.3f}<extra></extra>")  # fmt: skip
    line = {"color": theme.ink(), "width": 1}
    for column in range(1, c.r2):
        figure.add_vline(x=column * IN / c.r2 - 0.5, line=line, opacity=0.55)
    if OUT // c.r1 < OUT:
        for row in range(1, OUT // c.r1):
            figure.add_hline(y=row * c.r1 - 0.5, line=line, opacity=0.35)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def spectrum(c: Components, seed: int) -> go.Figure:
    """Singular values of this delta W and of a LoRA of equal cost, as shares of the largest."""
    rank = measured_rank(c, seed)
    figure = charts.plotly(
        f"ΔW uses {rank} of {min(OUT, IN)} directions",
        "singular value, largest first",
        "share of the largest",
        height=300,
    )
    lora = lora_rank(c)
    lines = [("this adapter", c, theme.R, "circle", "solid")]
    if lora and c.r1 * c.r2 > 1:
        lines.append((f"LoRA {lora}", Components(1, 1, lora), theme.LORA, "square", "dash"))
    for name, components, colour, symbol, dash in lines:
        values = singular_values(delta(components, seed))
        values = values[values > 1e-9 * values[0]]
        figure.add_scatter(
            x=np.arange(1, len(values) + 1, dtype=np.float32), y=(values / values[0]).astype(np.float32), name=name,
            mode="lines+markers", line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 7},
            hovertemplate=f"{name}, value %{{x}}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        ours = components == c
        here = len(values) // 2 if ours else len(values) - 1  # above our curve, below that of LoRA
        figure.add_annotation(
            x=here + 1, y=float(values[here] / values[0]), text=f"{name}: rank {len(values)}", showarrow=False,
            yshift=12 if ours or here == 0 else -12, xshift=6, xanchor="left",
        )  # fmt: skip
    figure.update_xaxes(range=[0, min(OUT, IN) + 1])
    figure.update_yaxes(range=[0, 1.12])
    return figure


def cover(question: Question, revealed: bool) -> None:
    """The exercise: the shapes are shown, the singular values only afterwards."""
    draw = question.draw
    c = Components(draw["r1"], draw["r2"], draw["r"])
    # the drawing tells the bound; before the reveal only the shapes are named
    picture = option_svg(c, OUT, IN, lora_rank(c), "this layer") if revealed else _shapes(c)
    _pair(picture, c, measured_rank(c, draw["seed"]) if revealed else None)
    if revealed:
        st.plotly_chart(spectrum(c, draw["seed"]), key="c2_answer", config=charts.PLOTLY_CONFIG,
                        alt="Singular values of the asked configuration")  # fmt: skip
    else:
        parts.show('<div class="learn-covered">The singular values appear when you have predicted.</div>')


def _shapes(c: Components) -> str:
    (_, r1, a_columns), (_, b_rows, r2) = c.shapes(OUT, IN)
    return (
        f'<div class="learn-shapes"><div><b>B<sub>i</sub></b> {b_rows} × <span class="cdka-letter r2">{r2}</span></div>'
        f'<div><b>A<sub>i</sub></b> <span class="cdka-letter r1">{r1}</span> × {a_columns}</div>'
        f'<div><span class="cdka-letter r">{c.r}</span> of each, summed</div></div>'
    )
