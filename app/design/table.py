"""The options as a table: tick to compare, click a row's cell to look closer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pandas as pd
import streamlit as st

from cdka.solver import PRESETS, Option

MOST_ROWS = 300
SHOWN = {
    "all": "All",
    "pareto": "Unbeaten",
    "lora": "LoRA",
}
"""Which options are listed: every one, those that no other beats, or LoRA ranks."""


def listed(found: Sequence[Option], which: str) -> list[Option]:
    """The options that the table lists, best first, at most 300."""
    keep = {
        "all": lambda option: True,
        "pareto": lambda option: option.pareto,
        "lora": lambda option: option.is_lora,
    }[which]
    rows = []
    for option in found:
        if keep(option):
            rows.append(option)
            if len(rows) == MOST_ROWS:
                break
    return rows


def frame(options: Sequence[Option]) -> pd.DataFrame:
    """The table's columns, shares as percentages."""
    return pd.DataFrame(
        {
            "r1": [o.r1 for o in options],
            "r2": [o.r2 for o in options],
            "r": [o.r for o in options],
            "parameters": [o.num_params for o in options],
            "of budget": [100 * o.budget_used for o in options],
            "alignment": [o.alignment for o in options],
            "rank": [o.rank_bound for o in options],
            "unbeaten": ["●" if o.pareto else "" for o in options],
            "guideline": [", ".join(PRESETS[name].title for name in o.presets) for o in options],
            "extra work": [100 * o.flops_overhead for o in options],
            "scaling": [o.scaling for o in options],
        }
    )


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
        frame(options), key=key, height=height, hide_index=True, row_height=29, on_select=on_select,
        selection_mode=["multi-row", "single-cell"], alt="Options that fit the budget, best first",
        column_config={
            "r1": number(width=44, help="rows of A_i; divides out_features"),
            "r2": number(width=44, help="columns of B_i; divides in_features"),
            "r": number(width=50, help="number of components"),
            "parameters": number(format="localized", width=92, help="trainable, over all adapted modules"),
            "of budget": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100, width=88),
            "alignment": number(format="%.3f", width=82, help="expected cosine with full fine-tuning's step"),
            "rank": number(format="localized", width=58, help="bound on the rank of ΔW, mean over the modules"),
            "scaling": number(format="%.3g", help="alpha / sqrt(r r2), alpha = 64"),
            "extra work": number(format="%.2g %%", help="forward FLOPs per token on top of the base model's"),
            "unbeaten": st.column_config.TextColumn(
                width=70, help="no other is better in parameters, alignment or rank without being worse in another"
            ),
            "guideline": st.column_config.TextColumn(help="a guideline that picks this option"),
        },
    )  # fmt: skip


def heard(key: str, options: Sequence[Option]) -> tuple[list[str], str | None]:
    """What the reader did, inside ``on_select``: the ticked components, and those of the clicked cell."""
    selection = st.session_state[key]["selection"]
    ticked = [str(options[row].components) for row in selection["rows"] if row < len(options)]
    cells = [row for row, _ in selection["cells"] if row < len(options)]
    return ticked, str(options[cells[0]].components) if cells else None
