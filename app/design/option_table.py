"""The options as a table: tick to compare, click a row's cell to look closer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from cdka.solver import PRESETS, Option, Solution

MOST_ROWS = 300


def listed(solution: Solution, which: str) -> tuple[list[Option], int]:
    """The options that the table lists, best first, at most 300; and how many there are."""
    c = solution.columns
    rows = {
        "All": lambda: np.arange(len(c)),
        "Unbeaten": lambda: np.flatnonzero(solution.pareto),
        "LoRA": lambda: np.flatnonzero((c.r1 == 1) & (c.r2 == 1)),
    }[which]()
    return solution.at(rows[:MOST_ROWS]), len(rows)


def frame(options: Sequence[Option]) -> pd.DataFrame:
    """The table's columns, shares as percentages; the score only where objectives are weighed."""
    columns = {
        "r1": [o.r1 for o in options],
        "r2": [o.r2 for o in options],
        "r": [o.r for o in options],
        "parameters": [o.num_params for o in options],
        "budget": [100 * o.budget_used for o in options],
        "alignment": [o.alignment for o in options],
        "rank": [o.rank_bound for o in options],
        "work": [100 * o.flops_overhead for o in options],
        "best": ["●" if o.pareto else "" for o in options],
        "guideline": [", ".join(PRESETS[name].short for name in o.presets) for o in options],
        "scaling": [o.scaling for o in options],
        "file": [o.adapter_bytes / 1e6 for o in options],
    }
    if options and options[0].score is not None:
        columns = {"score": [o.score for o in options], **columns}
    return pd.DataFrame(columns)


def show(
    options: Sequence[Option], key: str, ticked: Collection[str], on_select: Callable[[], None], height: int
) -> None:
    """Draws the table with the ``ticked`` components ticked. What the reader does arrives through ``on_select``."""
    st.session_state[key] = {
        "selection": {
            "rows": [i for i, o in enumerate(options) if str(o.components) in ticked],
            "columns": [],
            "cells": [],
        }
    }
    number = st.column_config.NumberColumn
    st.dataframe(
        frame(options),
        key=key,
        height=height,
        hide_index=True,
        row_height=29,
        on_select=on_select,
        selection_mode=["multi-row", "single-cell"],
        alt="Options that fit the budget, best first",
        column_config={
            "score": number(format="%.2f", width=48, help="the weighed objectives, 0 to 1"),
            "r1": number(width=38, help="rows of A_i; divides out_features"),
            "r2": number(width=38, help="columns of B_i; divides in_features"),
            "r": number(width=38, help="number of components"),
            "parameters": number(format="localized", width=84, help="trainable, over all adapted modules"),
            "budget": st.column_config.ProgressColumn(
                format="%.0f %%", min_value=0, max_value=100, width=72, help="share of the budget spent"
            ),
            "alignment": number(format="%.3f", width=66, help="expected cosine with full fine-tuning's step"),
            "rank": number(format="localized", width=48, help="bound on the rank of ΔW, mean over the modules"),
            "work": number(format="%.2g %%", width=50, help="forward FLOPs per token on top of the base model's"),
            "best": st.column_config.TextColumn(
                width=40, help="● unbeaten: none is better in parameters, alignment or rank without being worse in one"
            ),
            "guideline": st.column_config.TextColumn(width=112, help="a guideline that picks this option"),
            "scaling": number(format="%.3g", width=60, help="alpha / sqrt(r r2), alpha = 64"),
            "file": number(format="%.3g MB", width=70, help="size of the saved adapter, at most"),
        },
    )


def heard(key: str, options: Sequence[Option]) -> tuple[list[str], str | None]:
    """What the reader did, inside ``on_select``: the ticked components, and those of the clicked cell."""
    selection = st.session_state[key]["selection"]
    ticked = [str(options[row].components) for row in selection["rows"] if row < len(options)]
    cells = [row for row, _ in selection["cells"] if row < len(options)]
    return ticked, str(options[cells[0]].components) if cells else None
