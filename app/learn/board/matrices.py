"""The matrix board: matrices to edit by dragging or typing, cells to pick. Python decides every number on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

MAX_ENTRY = 9.0
"""The largest number that a cell takes, either sign."""

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "cdka_matrix_board",
    html='<div class="board"></div>',
    css=(_HERE / "board.css").read_text(encoding="utf-8"),
    js=(_HERE / "board.js").read_text(encoding="utf-8"),
)


def sign(text: str) -> dict[str, Any]:
    """A sign between matrices."""
    return {"kind": "sign", "text": text}


def note(text: str) -> dict[str, Any]:
    """A remark beside matrices; a screen reader reads it out when it changes."""
    return {"kind": "note", "text": text}


def matrix(
    id: str,
    name: str,
    values: np.ndarray,
    tint: str,
    *,
    shape: str = "",
    edit: bool = False,
    pick: tuple[int, int] | None = None,
    block: tuple[int, int] | None = None,
    marked: Sequence[tuple[int, int]] = (),
    links: Callable[[int, int], list[str]] | None = None,
    cover: Callable[[int, int], bool] | None = None,
    now: bool = False,
    texts: Callable[[float], str] | None = None,
    wide: bool = False,
    small: bool = False,
) -> dict[str, Any]:
    """One matrix of a board. ``pick`` is the picked cell (cells can then be picked); ``links`` names, for one cell, the
    cells that light up with it (``id:row:column``); ``cover`` hides a cell's number; ``now`` says that
    the text is about this matrix; ``texts`` writes a number otherwise; a cell of a ``wide`` matrix is as tall as
    two, those of a line with a ``small`` one are small."""
    values = np.atleast_2d(values)
    strongest = max(float(np.abs(values).max()), 1e-12)
    rows = [
        [
            {
                "t": "?" if cover and cover(i, j) else (texts or short)(value),
                "v": 0.0 if cover and cover(i, j) else float(value),
                "w": 0 if cover and cover(i, j) else round(abs(float(value)) / strongest, 3),
                "neg": bool(value < 0) and not (cover and cover(i, j)),
                "picked": (i, j) == pick or (i, j) in marked,
                "cover": bool(cover and cover(i, j)),
                "links": links(i, j) if links else [],
            }
            for j, value in enumerate(row)
        ]
        for i, row in enumerate(values)
    ]
    size = shape or f"{values.shape[0]}×{values.shape[1]}"
    return {
        "kind": "matrix",
        "id": id,
        "name": name,
        "tint": tint,
        "shape": size,
        "cells": rows,
        "edit": edit,
        "pick": pick is not None,
        "block": list(block) if block else None,
        "now": now,
        "wide": wide,
        "small": small,
    }


def short(value: float) -> str:
    """A number in a cell: at most two decimals, a true minus sign."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text.replace("-", "−")


def show(
    lines: list[list[dict[str, Any]]],
    key: str,
    *,
    on_edit: Callable[[], None] | None,
    on_pick: Callable[[], None] | None,
) -> None:
    """Draw the board. ``st.session_state[key]`` then has ``edit`` ({id, rows, live}) and ``pick`` ([row, column])."""
    idle = lambda: None  # noqa: E731
    _component(
        data={"lines": lines, "most": MAX_ENTRY},
        key=key,
        on_edit_change=on_edit or idle,
        on_pick_change=on_pick or idle,
    )
