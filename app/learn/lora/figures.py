"""The figures of chapter 2: the factors to scale, values and singular values of delta W, the pattern of U and V."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import charts, theme, widgets
from app.design.factor_drawing import option_svg
from app.learn import drawing
from app.learn.course import Page, Question
from app.learn.gradient import real_gradient
from app.learn.press import press
from cdka import formatting
from cdka.components import Components, divisors
from cdka.errors import CdkaError
from cdka.theory import delta_weight, kaiming_components, numerical_rank, singular_values

OUT, IN = 48, 64
FREE, PATTERN = "free numbers", "pattern"
"""Caption of the drawing of U and V."""


def delta(c: Components, seed: int) -> np.ndarray:
    """A delta W of shape (48, 64) with random factors, as after training; scaling for alpha = 1."""
    rng = np.random.default_rng(seed)
    A = kaiming_components(c, IN, rng)
    B = rng.standard_normal(c.shapes(OUT, IN)[1])
    return delta_weight(A, B, c.scaling(1.0))


def measured_rank(c: Components, seed: int) -> int:
    """The number of singular values of such a delta W that are not zero."""
    return numerical_rank(delta(c, seed))


def lora_rank(c: Components) -> int:
    """The LoRA rank whose cost is nearest from below (0: even rank 1 costs more)."""
    return c.num_params(OUT, IN) // Components(1, 1, 1).num_params(OUT, IN)


@lru_cache(maxsize=1)
def cheapest_full_rank() -> Components:
    """The configuration of full rank with the fewest parameters, among all that fit the layer."""
    dimensions = [(r1, r2) for r1 in divisors(OUT) for r2 in divisors(IN)]
    fitting = [Components(r1, r2, r) for r1, r2 in dimensions for r in range(1, 9)]
    full = [c for c in fitting if c.rank_bound(OUT, IN) == min(OUT, IN)]
    return min(full, key=lambda c: (c.num_params(OUT, IN), c.flops_per_token(OUT, IN)))


def draw(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    c = Components(values["r1"], values["r2"], values["r"])
    if page.view == "pattern":
        _pattern(Components(values["u1"], values["u2"], values["ur"]), free=values["show"] == FREE)
        return
    if page.view == "press":
        press.show(Components(c.r1, c.r2, 1), "pattern", "c2_press")
        widgets.caption(real_gradient().caption)
        return
    matrix = delta(c, values["seed"])
    _pair(option_svg(c, OUT, IN, lora_rank(c), "this layer"), c, numerical_rank(matrix), goal=page.id == "bound")
    figure = heatmap(matrix, c) if page.view == "matrix" else spectrum(c, values["seed"])
    alt = "Values of delta W" if page.view == "matrix" else "Singular values of delta W beside those of LoRA"
    charts.show(figure, f"c2_{page.view}", alt)


def _pattern(c: Components, *, free: bool) -> None:
    rank = c.r * c.r1 * c.r2
    if rank > MAX_RANK:
        raise CdkaError(
            f"the drawing has room for a rank r r1 r2 of at most {MAX_RANK}: got {rank:,} for {c}. Lower r1, r2 or r."
        )
    widgets.html_block(pattern_svg(c, free=free))
    params, all_free = c.num_params(PATTERN_OUT, PATTERN_IN), free_numbers(c)
    widgets.html_block(
        f"{widgets.chip_html(c)} <b>{params:,}</b> numbers make U and V of rank {rank}; a LoRA of rank {rank} has "
        f"<b>{all_free:,}</b> free ones, {all_free / params:.3g} times as many."
    )
    widgets.caption(f"A layer of {PATTERN_OUT} × {PATTERN_IN}. Equal colours are equal numbers; empty tiles are zeros.")


def _pair(picture: str, c: Components, rank: int | None, *, goal: bool = False) -> None:
    """The drawing, and the numbers beside it; ``rank`` is None while it is asked for. With ``goal``, how far this is
    from the cheapest configuration of full rank."""
    left, right = st.container(key="learn-pair").columns([3, 2], gap="medium")
    with left:
        widgets.html_block(picture)
    params, lora = c.num_params(OUT, IN), lora_rank(c)
    beside = f"LoRA of rank {lora} costs {lora * (OUT + IN):,}" if lora else f"LoRA of rank 1 costs {OUT + IN:,}"
    found = "?" if rank is None else str(rank)
    aim = ""
    if goal and rank == min(OUT, IN):
        least = cheapest_full_rank().num_params(OUT, IN)
        aim = "full rank, and none is cheaper" if params == least else f"full rank; the cheapest costs {least:,}"
        aim = f"<dt>{'Found' if params == least else 'Not yet'}</dt><dd>{aim}</dd>"
    with right:
        widgets.html_block(
            f'{widgets.chip_html(c)}<dl class="learn-facts">'
            f"<dt>{widgets.count_html(params, 'parameters')}</dt><dd>{beside}</dd>"
            f"<dt>rank <b>{found}</b> of {min(OUT, IN)}</dt><dd>singular values of ΔW that are not zero</dd>{aim}</dl>"
        )


def heatmap(matrix: np.ndarray, c: Components) -> go.Figure:
    """The values of delta W with the block boundaries."""
    most = float(np.abs(matrix).max())
    values = {
        "type": "heatmap",
        "z": matrix.astype(np.float32),
        "zmin": -most,
        "zmax": most,
        "colorscale": [[k / (len(theme.DIVERGING) - 1), colour] for k, colour in enumerate(theme.DIVERGING)],
        "showscale": False,
        "hovertemplate": "output %{y}, input %{x}: %{z:.3f}<extra></extra>",
    }
    line = {"type": "line", "line": {"color": theme.ink(), "width": 1}}
    upright, level = {**line, "yref": "y domain", "y0": 0, "y1": 1}, {**line, "xref": "x domain", "x0": 0, "x1": 1}
    columns = [column * IN / c.r2 - 0.5 for column in range(1, c.r2)]
    rows = [row * c.r1 - 0.5 for row in range(1, OUT // c.r1)] if c.r1 > 1 else []
    return charts.plotly(
        f"ΔW: {formatting.plural(c.r, 'block')} repeated and summed" if c.r > 1 else "ΔW: one block repeated",
        "input",
        "output",
        [values],
        height=300,
        shapes=[{**upright, "x0": x, "x1": x, "opacity": 0.55} for x in columns]
        + [{**level, "y0": y, "y1": y, "opacity": 0.35} for y in rows],
        xaxis={"showgrid": False},
        yaxis={"showgrid": False, "autorange": "reversed"},
    )


def spectrum(c: Components, seed: int) -> go.Figure:
    """Singular values of this delta W and of the largest LoRA that costs no more, as shares of the largest."""
    rank = measured_rank(c, seed)
    lora = lora_rank(c)
    lines = [("this adapter", c, theme.R, "circle", "solid")]
    if lora and c.r1 * c.r2 > 1:
        lines.append((f"LoRA {lora}", Components(1, 1, lora), theme.LORA, "square", "dash"))
    data, names = [], []
    for name, components, colour, symbol, dash in lines:
        values = singular_values(delta(components, seed))
        values = values[values > 1e-9 * values[0]]
        data.append(
            {
                "x": np.arange(1, len(values) + 1, dtype=np.float32),
                "y": (values / values[0]).astype(np.float32),
                "name": name,
                "mode": "lines+markers",
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"symbol": symbol, "size": 7},
                "hovertemplate": f"{name}, value %{{x}}: %{{y:.3f}}<extra></extra>",
            }
        )
        ours = components == c
        here = len(values) // 2 if ours else len(values) - 1  # above our curve, below that of LoRA
        place = {"yshift": 12 if ours or here == 0 else -12, "xshift": 6, "xanchor": "left"}
        names.append(charts.label(here + 1, float(values[here] / values[0]), f"{name}: rank {len(values)}", **place))
    return charts.plotly(
        f"ΔW uses {rank} of {min(OUT, IN)} directions",
        "singular value, largest first",
        "share of the largest",
        data,
        height=300,
        annotations=names,
        xaxis={"range": [0, min(OUT, IN) + 1]},
        yaxis={"range": [0, 1.12]},
    )


def draw_question(question: Question, revealed: bool) -> None:
    """The exercise: the shapes are shown, the singular values only afterwards."""
    draw = question.draw
    c = Components(draw["r1"], draw["r2"], draw["r"])
    # the drawing names the bound; before the reveal only the shapes are named
    picture = option_svg(c, OUT, IN, lora_rank(c), "this layer") if revealed else _shapes(c)
    _pair(picture, c, measured_rank(c, draw["seed"]) if revealed else None)
    if revealed:
        charts.show(spectrum(c, draw["seed"]), "c2_answer", "Singular values of the asked configuration")
    else:
        drawing.placeholder("Make your prediction to reveal the singular values.")


def _shapes(c: Components) -> str:
    (_, r1, a_columns), (_, b_rows, r2) = c.shapes(OUT, IN)
    return (
        f'<div class="learn-shapes"><div><b>B<sub>i</sub></b> {b_rows} × <span class="cdka-letter r2">{r2}</span></div>'
        f'<div><b>A<sub>i</sub></b> <span class="cdka-letter r1">{r1}</span> × {a_columns}</div>'
        f'<div><span class="cdka-letter r">{c.r}</span> of each, summed</div></div>'
    )


PATTERN_OUT, PATTERN_IN = 16, 16
MAX_RANK = 32
"""The layer that is drawn, and the widest U that is drawn to scale."""


def pattern_factors(c: Components) -> tuple[np.ndarray, np.ndarray]:
    """U (out, R) and V (R, in) as numbers of entries: k > 0 is the k-th number of B or A, 0 is a zero. R = r r1 r2.

    U V with the numbers in place of their positions is sum_i B_i (x) A_i, by the mixed-product rule.
    """
    (_, _, wide), (_, tall, _) = c.shapes(PATTERN_OUT, PATTERN_IN)
    b = np.arange(1, c.r * tall * c.r2 + 1).reshape(c.r, tall, c.r2)
    a = np.arange(1, c.r * c.r1 * wide + 1).reshape(c.r, c.r1, wide)
    U = np.hstack([np.kron(one, np.eye(c.r1, dtype=int)) for one in b])
    V = np.vstack([np.kron(np.eye(c.r2, dtype=int), one) for one in a])
    return U, V


def free_numbers(c: Components) -> int:
    """The numbers of a LoRA of rank r r1 r2 on the layer that is drawn."""
    return c.r * c.r1 * c.r2 * (PATTERN_OUT + PATTERN_IN)


def pattern_svg(c: Components, *, free: bool) -> str:
    """U beside V, to scale: with the pattern, or with every entry a number of its own."""
    U, V = pattern_factors(c)
    rank = U.shape[1]
    if free:
        U, V = np.arange(1, U.size + 1).reshape(U.shape), np.arange(1, V.size + 1).reshape(V.shape)
    tile = min(17.0, 520.0 / (rank + PATTERN_IN), 300.0 / max(PATTERN_OUT, rank))
    left, top = 8.0, 26.0
    v_x = left + rank * tile + 30
    what = f"{U.size + V.size} free numbers" if free else f"{c.num_params(PATTERN_OUT, PATTERN_IN)} numbers, repeated"
    return drawing.svg(
        v_x + PATTERN_IN * tile + 10,
        top + max(PATTERN_OUT, rank) * tile + 30,
        f"U of {PATTERN_OUT} by {rank} times V of {rank} by {PATTERN_IN}: {what}",
        drawing.text(left, 16, f"U, {PATTERN_OUT} × {rank}"),
        _cells(U, left, top, tile, theme.R2),
        drawing.text(left + rank * tile + 10, top + PATTERN_OUT * tile / 2, "·", "big"),
        drawing.text(v_x, 16, f"V, {rank} × {PATTERN_IN}"),
        _cells(V, v_x, top, tile, theme.R1),
    )


def _cells(entries: np.ndarray, x: float, y: float, tile: float, ink: str) -> str:
    """Every entry as a tile whose strength names the number; zeros stay empty."""
    most = int(entries.max())
    shades = np.random.default_rng(1).permutation(most)  # neighbours in number look different
    parts = [drawing.frame(x, y, entries.shape[1] * tile, entries.shape[0] * tile)]
    for i, row in enumerate(entries):
        for j, entry in enumerate(row):
            if entry:
                strength = 0.18 + 0.82 * shades[entry - 1] / max(1, most - 1)
                parts.append(
                    f'<rect x="{x + j * tile:.1f}" y="{y + i * tile:.1f}" width="{tile - 0.6:.1f}" '
                    f'height="{tile - 0.6:.1f}" fill="{ink}" fill-opacity="{strength:.2f}"/>'
                )
    return "".join(parts)
