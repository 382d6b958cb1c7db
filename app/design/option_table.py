"""The options as a table: tick to compare, click a cell to see the option. What does not fit the device is greyed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from app import theme
from cdka.notebook.options import Listing, frame, listed
from cdka.solver import Option
from cdka.solver.default_option import Advice

__all__ = ["listed", "read_selection", "show_table"]


def show_table(
    listing: Listing,
    advice: Advice,
    key: str,
    ticked: Collection[str],
    on_select: Callable[[], None],
    height: int,
) -> None:
    """Draws the table with the ``ticked`` components ticked. What the reader does arrives through ``on_select``."""
    options = listing.options
    st.session_state[key] = {
        "selection": {
            "rows": [i for i, o in enumerate(options) if str(o.components) in ticked],
            "columns": [],
            "cells": [],
        }
    }
    number = st.column_config.NumberColumn
    rows = frame(listing, advice.option.components, advice.device)
    order = [name for name in rows.columns if name != "budget"]
    order.insert(order.index("server") + 1, "budget")  # what serving needs is in sight before it
    st.dataframe(
        rows if listing.fits is None or listing.fits.all() else _greyed(rows, listing.fits),
        key=key,
        height=height,
        hide_index=True,
        column_order=order,
        row_height=29,
        on_select=on_select,
        selection_mode=["multi-row", "single-cell"],
        alt="Options that fit the budget, the advised one first",
        column_config={
            "": st.column_config.TextColumn(width=64),
            "score": number(format="%.2f", width=48, help="the weighed objectives, 0 to 1"),
            "r1": number(width=38, help="rows of A_i; divides out_features"),
            "r2": number(width=38, help="columns of B_i; divides in_features"),
            "r": number(width=38, help="number of components"),
            "alignment": number(format="%.3f", width=66, help="expected cosine with full fine-tuning's step"),
            "memory": st.column_config.TextColumn(width=64, help=f"peak while training, {advice.setting}"),
            "arithmetic": number(format="%.2g %%", width=66, help="forward FLOPs per token on top of the base model's"),
            "parameters": number(format="localized", width=84, help="trainable, over all adapted modules"),
            "budget": st.column_config.ProgressColumn(
                format="%.0f %%", min_value=0, max_value=100, width=72, help="share of the budget spent"
            ),
            "rank": number(format="localized", width=48, help="bound on the rank of ΔW, mean over the modules"),
            "LoRA export": number(
                width=74, help="largest rank of the exact LoRA export: r r1 r2, or the module's smaller side"
            ),
            "server": st.column_config.TextColumn(width=52, help="vLLM's --max-lora-rank that serves the export"),
            "Pareto": st.column_config.TextColumn(
                width=48, help="● no option is better in parameters, alignment or rank without being worse in one"
            ),
            "guideline": st.column_config.TextColumn(width=150, help="guidelines that pick this option"),
            "scaling": number(format="%.3g", width=60, help="alpha / sqrt(r r2), alpha = 64"),
            "file": number(format="%.3g MB", width=70, help="size of the saved adapter, at most"),
        },
    )


def _greyed(rows: pd.DataFrame, fits: np.ndarray):
    """The rows, grey where they do not fit."""
    grey = f"color: {theme.current().faint}"
    return rows.style.apply(lambda row: ["" if fits[row.name] else grey] * len(row), axis=1)


def read_selection(key: str, options: Sequence[Option]) -> tuple[list[str], str | None]:
    """The ticked components and those of the clicked cell, inside ``on_select``."""
    selection = st.session_state[key]["selection"]
    ticked = [str(options[row].components) for row in selection["rows"] if row < len(options)]
    cells = [row for row, _ in selection["cells"] if row < len(options)]
    return ticked, str(options[cells[0]].components) if cells else None
