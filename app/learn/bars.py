"""Labelled bars to one scale, in plain HTML."""

from __future__ import annotations

from collections.abc import Sequence

Bar = tuple[str, float, str, str]
"""Label, value, text of the value, css class (``full`` is hatched, ``kron`` is not)."""


def bars_html(rows: Sequence[Bar]) -> str:
    """The bars; the longest fills the width, and none is too thin to see."""
    most = max(value for _, value, _, _ in rows)
    return (
        '<div class="learn-bars">'
        + "".join(
            f'<div class="learn-bar"><span>{label}</span><i class="{css}" '
            f'style="width:{max(100 * value / most, 0.15):.2f}%"></i><b>{text}</b></div>'
            for label, value, text, css in rows
        )
        + "</div>"
    )
