"""Tables: the arms with their intervals, methods at one budget, what differs, and the verdicts."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from app import widgets
from app.compare import arm_links, controls
from cdka import formatting
from cdka.compare.budget import TOLERANCE, budgets, diff, equal_budget
from cdka.compare.comparison import Comparison
from cdka.compare.report import arm_table, estimate_header
from cdka.formatting import PLUS_MINUS, estimate, signed
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, words_of
from cdka.runs.states import KEPT
from cdka.stats.paired import UNRESOLVED, needs

_ARMS = "compare-arms"
_FRONT = "Pareto front of parameters against the metric: on, off, or not resolved by these seeds."

_KEPT = "What the runs could do before, judged before and after: accuracy, or the loss on a text (--retain)."


def arms(comparison: Comparison, shown: list[str], *, most_rows: int = 18) -> None:
    """The shown arms, best first, each with its interval and number of seeds."""
    rows = arm_table(comparison, shown)
    listed = rows["arm"].to_list()
    widgets.html_block(arm_links.legend_html(comparison, listed[: arm_links.MAX_LINKED]))
    chosen, measured = arm_links.lit(comparison), estimate_header(comparison)
    st.session_state[_ARMS] = {
        "selection": {"rows": [listed.index(chosen)] if chosen in listed else [], "columns": [], "cells": []}
    }
    st.dataframe(
        pd.DataFrame(
            {
                "Arm": rows["label"],
                "Parameters": rows["num_params"],
                measured: rows["estimate"],
                "Front": rows["front"],
                **({"Kept": rows["kept"]} if rows["kept"].any() else {}),
            }
        ),
        hide_index=True,
        placeholder="–",
        width="stretch",
        key=_ARMS,
        on_select=partial(_chosen, listed),
        selection_mode="single-row",
        height="content" if len(rows) <= most_rows else 33 * (most_rows + 1) + 3,
        column_config={
            "Parameters": st.column_config.NumberColumn(format="localized", width="small"),
            measured: st.column_config.TextColumn(f"{comparison.measure.header}, ±", help=PLUS_MINUS),
            "Front": st.column_config.TextColumn(width="small", help=_FRONT),
            "Kept": st.column_config.TextColumn(width="small", help=_KEPT),
        },
        alt=f"Arms with {comparison.measure.header}, mean and 95 % interval over seeds",
    )
    widgets.caption(f"{PLUS_MINUS} over seeds.")


def _chosen(listed: list[str]) -> None:
    rows = st.session_state[_ARMS]["selection"]["rows"]
    st.session_state[arm_links.LIT] = listed[rows[0]] if rows and rows[0] < len(listed) else None


def _estimates(rows: pd.DataFrame) -> list[str]:
    return [estimate(*values) for values in rows[["mean", "ci_low", "ci_high", "n"]].itertuples(index=False)]


def verdicts(comparison: Comparison, shown: list[str]) -> None:
    """The paired comparisons in a table, resolved ones first."""
    found = comparison.verdicts[comparison.verdicts["a"].isin(shown)].sort_values("p_holm", na_position="last")
    labels = comparison.labels
    known = found["ci_low"].notna()
    st.dataframe(
        pd.DataFrame(
            {
                "Arm": found["a"].map(labels),
                "Against": found["b"].map(labels),
                "Verdict": found["verdict"],
                "Difference": [signed(d) if pd.notna(d) else "" for d in found["difference"]],
                "95 % interval": [
                    f"{signed(low)} to {signed(high)}" if ok else ""
                    for low, high, ok in zip(found["ci_low"], found["ci_high"], known, strict=True)
                ],
                "p (Holm)": ["" if pd.isna(p) else f"{p:.2g}" for p in found["p_holm"]],
                "Shared seeds": found["n"],
                "Test": found["test"],
                "": [needs(row) if row["verdict"] == UNRESOLVED else "" for _, row in found.iterrows()],
            }
        ),
        hide_index=True,
        width="stretch",
        key="compare-verdicts",
        alt="Verdicts of the paired comparisons",
    )
    widgets.caption(
        "Intervals are for each pair alone; p is corrected over all pairs of the comparison (Holm), also those hidden "
        "here. Seeds needed: from the observed difference, at 80 % power."
    )


def at_budget(comparison: Comparison, shown: list[str]) -> None:
    """Methods at one parameter budget, each represented by its arm that was best on validation."""
    known = comparison.arms[comparison.arms["arm"].isin(shown)]
    choices = budgets(known)
    if not choices:
        widgets.html_block(
            '<div class="cdka-quiet">No two methods here have budgets within 10 % of each other. Add a baseline of '
            "equal budget: Sweeps, baselines, or cdka sweep --baselines lora.</div>"
        )
        return
    chosen_budget = controls.pick(
        "budget_of", f"Budget in parameters, give or take {formatting.percent(TOLERANCE)}", [f"{c:,}" for c in choices]
    )
    budget = int(chosen_budget.replace(",", ""))
    frame = comparison.frame[comparison.frame["status"].isin(KEPT)]
    column = next((c for c in (EVAL_ACCURACY, EVAL_LOSS) if c in frame), "value")
    selection = frame.groupby("arm")[column].mean()
    rows = equal_budget(known, selection, budget, higher_is_better=column != EVAL_LOSS)
    verdict = {row["a"]: row for _, row in comparison.verdicts.iterrows()}
    st.dataframe(
        pd.DataFrame(
            {
                "Method": rows["family"],
                "Arm": rows["arm_label"],
                "Parameters": rows["num_params"],
                f"{comparison.measure.header} {PLUS_MINUS}": _estimates(rows),
                "Tried": rows["tried"],
                "Against the reference": [
                    "reference" if arm in comparison.references else verdict[arm]["verdict"] if arm in verdict else ""
                    for arm in rows["arm"]
                ],
            }
        ),
        hide_index=True,
        width="stretch",
        key="compare-at-budget",
        alt="Methods at equal budget",
        column_config={"Parameters": st.column_config.NumberColumn(format="localized")},
    )
    widgets.caption(
        f"Of the arms within {formatting.percent(TOLERANCE)} of the budget, each method shows the one that was best by "
        f"{words_of(column)}; the metric chosen above is not used. cdka 1,1,r is counted as LoRA, to which "
        "it is equivalent."
    )


def differences(comparison: Comparison, shown: list[str]) -> None:
    """Only the settings in which the shown arms differ."""
    rows = {comparison.labels[arm]: dict(comparison.settings[arm]) for arm in shown}
    found = diff(rows)
    if len(rows) < 2 or found.empty:
        widgets.html_block('<div class="cdka-quiet">These arms differ only in their seeds.</div>')
        return
    table = found.T.reset_index(names="arm") if len(rows) > 6 else found.reset_index()
    st.dataframe(table, hide_index=True, width="stretch", key="compare-diff", alt="Settings in which the arms differ")
    same = len(set().union(*rows.values())) - len(found)
    widgets.caption(
        f"{formatting.plural(len(found), 'setting')} differ; {same} others are the same for all shown arms."
    )
