"""The part of one adapted layer that other (r1, r2, r) would keep: a map, and spectra of the rearranged delta W."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cdka.compare.anatomy import LayerFactors, capture_map, rearranged_spectra
from cdka.compare.figures.style import dress, title
from cdka.palette import LIGHT, SEQUENTIAL, Theme, configuration_colour

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


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
