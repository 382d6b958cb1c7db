"""The options as a table: tick to compare, click a cell to see the option. What does not fit the device is greyed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app import theme
from cdka import formatting
from cdka.components import Components
from cdka.dialects.serving import VLLM_RANKS
from cdka.machine import Device
from cdka.solver import PRESETS, Option, Solution
from cdka.solver.advice import Advice
from cdka.solver.resources import fitting_rows

MAX_ROWS = 300


@dataclass(frozen=True)
class Listing:
    """The options that the table shows, best first, with what training each takes; ``total`` is how many there are."""

    options: list[Option]
    total: int
    memory: np.ndarray | None
    fits: np.ndarray | None


def listed(solution: Solution, which: str, advice: Advice, max_export_rank: int | None) -> Listing:
    """The options to list, the advised one first, at most 300."""
    c = solution.columns
    keep = np.ones(len(c), dtype=bool)
    if which == "Pareto front":
        keep = solution.pareto.copy()
    elif which == "LoRA":
        keep = (c.r1 == 1) & (c.r2 == 1)
    if max_export_rank is not None:
        keep &= c.r * c.r1 * c.r2 <= max_export_rank
    rows = np.flatnonzero(keep)
    first = solution.row(advice.option.components)
    if first is not None and keep[first] and not solution.weights:
        rows = np.r_[first, rows[rows != first]]
    shown = rows[:MAX_ROWS]
    memory, fits = fitting_rows(solution, advice.setting, advice.device)
    return Listing(
        solution.at(shown),
        len(rows),
        None if memory is None else memory[shown],
        None if fits is None else fits[shown],
    )


def frame(listing: Listing, advised: Components, device: Device | None) -> pd.DataFrame:
    """The table's columns, shares as percentages; the score only where objectives are weighed."""
    options = listing.options
    columns = {
        "": ["take this" if o.components == advised else "" for o in options],
        "r1": [o.r1 for o in options],
        "r2": [o.r2 for o in options],
        "r": [o.r for o in options],
        "alignment": [o.alignment for o in options],
        "memory": ["–"] * len(options) if listing.memory is None else [formatting.size(m) for m in listing.memory],
        "arithmetic": [100 * o.flops_overhead for o in options],
        "parameters": [o.num_params for o in options],
        "budget": [100 * o.budget_used for o in options],
        "rank": [o.rank_bound for o in options],
        "LoRA export": [o.export_rank for o in options],
        "server": [server_class(o.export_rank) for o in options],
        "Pareto": ["●" if o.pareto else "" for o in options],
        "guideline": [", ".join(PRESETS[name].short for name in o.presets) for o in options],
        "scaling": [o.scaling for o in options],
        "file": [o.adapter_bytes / 1e6 for o in options],
    }
    if listing.fits is not None and not listing.fits.all():
        name = "the device" if device is None else device.name
        columns["fits"] = ["yes" if fit else f"no: more than {name} has" for fit in listing.fits]
    if options and options[0].score is not None:
        columns = {"score": [o.score for o in options], **columns}
    return pd.DataFrame(columns)


def server_class(export_rank: int) -> str:
    """The smallest ``--max-lora-rank`` of vLLM that serves an export of this rank; ``merge`` beyond the largest."""
    return next((str(value) for value in VLLM_RANKS if value >= max(8, export_rank)), "merge")


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
    st.dataframe(
        rows if listing.fits is None or listing.fits.all() else _greyed(rows, listing.fits),
        key=key,
        height=height,
        hide_index=True,
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
            "LoRA export": number(width=74, help="rank of the exact LoRA export, r r1 r2"),
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
