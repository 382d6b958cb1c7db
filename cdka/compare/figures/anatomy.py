"""Pictures of one adapter: B_i and A_i, delta W and its blocks, singular values, and the share other sizes keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cdka import palette
from cdka.compare.anatomy import LayerFactors, capture_map, rearranged_spectra
from cdka.compare.figures.style import dress, title
from cdka.formatting import plural
from cdka.palette import LIGHT, SEQUENTIAL, Theme, configuration_colour
from cdka.theory.spectrum import effective_rank_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_CELLS = 192
"""Larger matrices are drawn in blocks of their largest entry, so that no structure is averaged away."""


def shrink(matrix: np.ndarray, most: int = MAX_CELLS) -> np.ndarray:
    """``matrix`` with at most ``most`` rows and columns: of each block, the entry of largest magnitude."""
    rows, columns = (max(1, -(-size // most)) for size in matrix.shape)
    if rows == columns == 1:
        return matrix
    padded = np.pad(matrix, ((0, -matrix.shape[0] % rows), (0, -matrix.shape[1] % columns)))
    blocks = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).transpose(0, 2, 1, 3)
    flat = blocks.reshape(*blocks.shape[:2], -1)
    return np.take_along_axis(flat, np.abs(flat).argmax(axis=-1)[..., None], axis=-1)[..., 0]


def _heat(matrix: np.ndarray, where: str, **more):
    """A heat map of ``matrix``, shrunk, its cells at their own rows and columns."""
    import plotly.graph_objects as go

    small = shrink(matrix).astype(np.float32)
    dy, dx = matrix.shape[0] / small.shape[0], matrix.shape[1] / small.shape[1]
    return go.Heatmap(
        z=small,
        x0=(dx - 1) / 2,
        dx=dx,
        y0=(dy - 1) / 2,
        dy=dy,
        hovertemplate=where + "<br>%{z:.4g}<extra></extra>",
        **more,
    )


def factor_figure(factors: LayerFactors, component: int = 0, *, columns: int = 4, theme: Theme = LIGHT) -> Figure:
    """B_i and A_i of one component, delta W, and the norm of each of its blocks. Signed values are centred on zero.

    Four panels, ``columns`` (1, 2 or 4) beside one another, each with its own scale of colours below it.
    """
    from plotly.subplots import make_subplots

    r1, r2, r = factors.components.as_tuple()
    b, a, delta, norms = factors.B[component], factors.A[component], factors.delta(), factors.block_norms()
    titles = [
        f"B<sub>{component + 1}</sub>  {b.shape[0]} × {b.shape[1]}",
        f"A<sub>{component + 1}</sub>  {a.shape[0]} × {a.shape[1]}",
        f"ΔW  {delta.shape[0]} × {delta.shape[1]}",
        f"norms  {norms.shape[0]} × {norms.shape[1]}",
    ]
    rows = 4 // columns
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=titles,
        horizontal_spacing=0.06 if rows == 1 else 0.14,
        vertical_spacing=0.3 / rows,
        column_widths=[1, 1.4, 1.8, 1] if rows == 1 else None,
    )
    dress(figure, theme, height=370 if rows == 1 else 300 * rows)
    figure.update_annotations(font_size=12)
    for i, matrix in enumerate((b, a, delta, norms)):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        top = float(np.abs(matrix).max()) or 1.0
        low = 0.0 if matrix is norms else -top
        colours = palette.SEQUENTIAL if matrix is norms else palette.DIVERGING
        where = "norm of block %{y}, %{x}" if matrix is norms else "row %{y}, column %{x}"
        number = str(i + 1) if i else ""
        bar = _bar(figure.layout[f"xaxis{number}"].domain, figure.layout[f"yaxis{number}"].domain[0], low, top, theme)
        figure.add_trace(_heat(matrix, where, zmin=low, zmax=top, colorscale=list(colours), colorbar=bar), **place)
        figure.update_yaxes(autorange="reversed", showgrid=False, dtick=_tick(matrix.shape[0]), **place)
        figure.update_xaxes(showgrid=False, dtick=_tick(matrix.shape[1]), **place)
        for q in range(1, r2) if matrix is delta else ():
            at = q * delta.shape[1] / r2 - 0.5
            figure.add_vline(x=at, line={"color": palette.FACTORS["r2"], "width": 1}, **place)
    figure.update_layout(margin_t=78, margin_b=64)
    title(figure, f"{factors.layer}: {plural(r, 'component')}, blocks of {r1} × {a.shape[1]}")
    return figure


def _bar(across: tuple[float, float], below: float, low: float, high: float, theme: Theme) -> dict[str, Any]:
    """The scale of one panel's colours, as wide as the panel and below its axis."""
    return {
        "orientation": "h",
        "x": (across[0] + across[1]) / 2,
        "len": across[1] - across[0],
        "y": below,
        "yanchor": "top",
        "ypad": 24,
        "xpad": 0,
        "thickness": 8,
        "outlinewidth": 0,
        "tickvals": [low, high],
        "ticktext": [f"{low:.2g}", f"{high:.2g}"],
        "tickfont": {"size": 10, "color": theme.quiet},
    }


def _colour(factors: LayerFactors) -> str:
    """The colour of the configuration that these factors belong to."""
    components = factors.components.as_tuple()
    return configuration_colour(factors.method, components if factors.method == "cdka" else None, components[2])


def _tick(size: int) -> int:
    """A whole distance between ticks: about four of them, in a power of two."""
    return 1 << max(0, (size // 4).bit_length() - 1)


def spectrum_figure(adapters: Mapping[str, LayerFactors], *, theme: Theme = LIGHT) -> Figure:
    """The singular values of delta W of one layer in several adapters, on a log scale, with their effective ranks."""
    import plotly.graph_objects as go

    figure = go.Figure()
    dress(figure, theme, height=300)
    for place, (name, factors) in enumerate(adapters.items()):
        values = factors.singular_values()
        values = values[values > values.max(initial=0.0) * 1e-12]
        lora = factors.components.as_tuple()[:2] == (1, 1)
        colour = _colour(factors)
        rank = effective_rank_of(values)
        figure.add_trace(
            go.Scatter(
                x=np.arange(1, len(values) + 1),
                y=values.astype(np.float32),
                mode="lines+markers",
                name=name,
                line={"color": colour, "width": 2, "dash": "dash" if lora else "solid"},
                marker={"size": 5},
                hovertemplate=f"{name}<br>value %{{x}}: %{{y:.4g}}<extra></extra>",
            )
        )
        if len(values):
            figure.add_annotation(
                xref="paper",
                yref="paper",
                x=1,
                y=1,
                text=f"{name}: effective rank {rank:.1f}",
                showarrow=False,
                xanchor="right",
                yanchor="top",
                yshift=-15 * place,  # above the curves, which fall to the right
                font={"size": 11, "color": colour},
            )
    figure.update_xaxes(title_text="index of the singular value")
    figure.update_yaxes(title_text="singular value", type="log", dtick=1, exponentformat="power")
    title(figure, "How many directions does ΔW use?")
    return figure


def rank_figure(adapters: Mapping[str, list[LayerFactors]], *, theme: Theme = LIGHT) -> Figure:
    """The effective rank of delta W in every layer, one line per adapter."""
    import plotly.graph_objects as go

    figure = go.Figure()
    dress(figure, theme, height=330)
    for name, layers in adapters.items():
        lora = layers[0].components.as_tuple()[:2] == (1, 1)
        colour = _colour(layers[0])
        ranks = [effective_rank_of(factors.singular_values()) for factors in layers]
        figure.add_trace(
            go.Scatter(
                x=np.arange(1, len(layers) + 1),
                y=ranks,
                mode="lines+markers",
                name=name,
                text=[f.layer for f in layers],
                line={"color": colour, "width": 2, "dash": "dash" if lora else "solid"},
                hovertemplate=f"{name}<br>%{{text}}<br>effective rank %{{y:.1f}}<extra></extra>",
            )
        )
        figure.add_annotation(
            x=len(layers),
            y=ranks[-1],
            text=name,
            showarrow=False,
            xanchor="left",
            xshift=8,
            font={"size": 11, "color": colour},
        )
    figure.update_xaxes(
        title_text="layer, in the model's order", dtick=max(1, len(next(iter(adapters.values()))) // 12)
    )
    figure.update_yaxes(title_text="effective rank of ΔW", rangemode="tozero")
    title(figure, "Which layers use the rank they have?")
    return figure


def capture_figure(factors: LayerFactors, *, theme: Theme = LIGHT) -> Figure:
    """The cosine between delta W and its nearest (r1, r2, r) of equal price; the adapter's own place is framed."""
    import plotly.graph_objects as go

    table = capture_map(factors)
    kept, counts = (table.pivot(index="r1", columns="r2", values=name) for name in ("kept", "r"))
    figure = go.Figure(
        go.Heatmap(
            z=kept.to_numpy(),
            x=[str(v) for v in kept.columns],
            y=[str(v) for v in kept.index],
            customdata=counts.to_numpy(),
            text=[[f"{value:.2f}" for value in row] for row in kept.to_numpy()],
            texttemplate="%{text}",
            colorscale=list(SEQUENTIAL),
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="r1 %{y}, r2 %{x}, r %{customdata}<br>keeps %{z:.3f}<extra></extra>",
        )
    )
    dress(figure, theme, height=330)
    own = factors.components
    if own.r1 in kept.index and own.r2 in kept.columns:
        x, y = list(kept.columns).index(own.r2), list(kept.index).index(own.r1)
        box = {"x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
        figure.add_shape(type="rect", line={"color": theme.ink, "width": 3}, **box)
    figure.update_xaxes(title_text="r2", type="category", showgrid=False)
    figure.update_yaxes(title_text="r1", type="category", showgrid=False)
    title(figure, "What would each choice of equal price keep of this ΔW?")
    return figure


def rearranged_figure(factors: LayerFactors, *, theme: Theme = LIGHT) -> Figure:
    """The singular values of R(delta W) at several (r1, r2): an adapter is short at its own, and long elsewhere."""
    import plotly.graph_objects as go

    figure = go.Figure()
    dress(figure, theme, height=330)
    own = (factors.components.r1, factors.components.r2)
    for (r1, r2), values in rearranged_spectra(factors).items():
        values = values[values > values.max(initial=0.0) * 1e-6]
        name = f"r1 {r1}, r2 {r2}" + (" (its own)" if (r1, r2) == own else "")
        figure.add_trace(
            go.Scatter(
                x=np.arange(1, len(values) + 1),
                y=values.astype(np.float32),
                mode="lines+markers",
                name=name,
                marker={"size": 5},
                line={"color": configuration_colour("cdka", (r1, r2, 1)), "width": 2},
                hovertemplate=f"{name}<br>component %{{x}}: %{{y:.4g}}<extra></extra>",
            )
        )
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    figure.update_xaxes(title_text="component")
    figure.update_yaxes(title_text="singular value of R(ΔW)", type="log", dtick=1, exponentformat="power")
    title(figure, "How many components does ΔW have?")
    return figure
