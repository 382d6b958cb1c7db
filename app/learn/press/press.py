"""The folding press: a real gradient whose tiles fly into R(G), a direction to turn, a step that folds back.

Its numbers come from ``directions``; the script moves tiles and multiplies by a vector, nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import streamlit as st

from app import theme
from app.learn.gradient import real_gradient
from app.learn.press.directions import directions
from cdka.components import Components

Mode = Literal["fold", "pattern", "press"]
"""``fold``: one Kronecker product, unfolded and folded. ``pattern``: the gradient and the closest sum of r products.
``press``: everything, with the direction to turn."""

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "cdka_folding_press",
    html='<div class="press"></div>',
    css=(_HERE / "press.css").read_text(encoding="utf-8"),
    js=(_HERE / "press.js").read_text(encoding="utf-8"),
)


def data(c: Components, mode: Mode) -> dict[str, Any]:
    """All that the script needs for one configuration."""
    found = directions(c)
    return {
        "mode": mode,
        "r1": c.r1,
        "r2": c.r2,
        "r": c.r,
        "gradient": real_gradient().values.round(4).tolist(),
        "random": found.random.round(4).tolist(),
        "best": found.best.round(4).tolist(),
        "predicted": round(found.predicted, 4),
        "caught": round(found.caught_best, 4),
        "darts": found.darts.round(4).tolist(),
        "angle": round(found.start_angle, 1),
        "colours": list(theme.DIVERGING),
    }


def show(c: Components, mode: Mode, key: str) -> None:
    """Draw the press for one configuration. Raises CdkaError where it does not fit 16 x 16."""
    c.check(16, 16)
    _component(data=data(c, mode), key=key)
