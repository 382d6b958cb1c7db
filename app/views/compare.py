"""Compare: answers with error bars."""

from __future__ import annotations

import html

import streamlit as st

from app import parts, state
from app.compare import closely, controls, drawings, exporting, selection, tables
from cdka.compare.trend import sentence as trend_sentence
from cdka.compare.verdicts import UNRESOLVED
from cdka.compare.words import plural

VIEWS = ("Curves", "Map", "Cost", "Differences", "Budget", "Settings", "Anatomy", "Examples", "Export")


def empty() -> None:
    """Nothing to compare yet: what would be here, and the button that fills it."""
    pressed = parts.empty(
        "Nothing to compare yet",
        "Here the runs of a sweep stand side by side: curves with their spread over seeds, a map of r1 by r2, verdicts "
        "that say what your seeds resolve and how many more it would take.",
        "Choose configurations and fine-tune them", lambda: None, key="compare",
    )  # fmt: skip
    if pressed:
        state.go("design")
    with st.expander("Or import a claim bundle"):
        file = st.file_uploader("A .zip that somebody exported here", type="zip", key="compare-first-upload")
        if file is not None:
            st.session_state.setdefault("compare-uploads", 0)
            exporting._import(file)


def headline(comparison) -> None:
    """What was found, in sentences: the trends, the count of verdicts, and what is missing."""
    lines = [
        trend_sentence(row, comparison.measure.header).replace(
            f" {row['factor']} ", f" {parts.letter_html(row['factor'])} ", 1
        )
        for _, row in comparison.trends.iterrows()
    ]
    if len(comparison.verdicts):
        resolved = comparison.verdicts[comparison.verdicts["verdict"] != UNRESOLVED]
        told = ", ".join(
            f"{html.escape(comparison.labels[row['a']])} {row['verdict']}" for _, row in resolved.head(4).iterrows()
        )
        named = html.escape(", ".join(comparison.labels[arm] for arm in comparison.references))
        against = "every other arm" if comparison.all_pairs else named
        rest = f"{len(resolved)} of {plural(len(comparison.verdicts), 'comparison')} with {against} resolved"
        left = comparison.verdicts["more_seeds"].dropna()
        hint = f"; the nearest other needs about {plural(left.min(), 'more seed')}" if len(left) else ""
        lines.append(f"{rest}{': ' + told if told else ''}{hint}.")
    items = "".join(f"<li>{line}</li>" for line in lines)
    notes = "".join(f'<li class="cdka-quiet">{html.escape(note)}</li>' for note in comparison.missing())
    parts.show(f'<ul style="margin:0;padding-left:1.1em;font-size:.93em">{items}{notes}</ul>')


def page() -> None:
    state.arrive("compare")
    exporting.follow_import()
    known = selection.options()
    if not known:
        empty()
        return
    what, which, where, against = st.columns([2.2, 1.2, 1.2, 1.6])
    with what:
        names = selection.widget(known)
    chosen = selection.load(names)
    measure = controls.measure(chosen.source.frame(), selection.steps(chosen.source), which, where)
    labels = selection.comparison(chosen, measure, None).arms["arm_label"].to_list()
    with against:
        comparison = selection.comparison(chosen, measure, controls.reference(labels))
    if chosen.live:
        selection.watch(names, chosen.fingerprint)
    view = st.segmented_control("View", VIEWS, label_visibility="collapsed", **state.bound("view")) or VIEWS[0]
    main, side = st.columns([2.1, 1], gap="medium")
    with side:
        with st.expander("Show only, or hide"):
            shown = controls.shown(comparison)
        headline(comparison)
        tables.arms(comparison, shown)
    with main, parts.errors_shown():
        if not shown:
            st.info("Every arm is hidden. Clear “Show only” or “Hide” on the right.")
            return
        draw(view, chosen, comparison, shown)


def draw(view: str, chosen, comparison, shown: list[str]) -> None:
    """The chosen view."""
    if view == "Curves":
        drawings.curve_panel(chosen, comparison, shown)
    elif view == "Map":
        drawings.map_panel(chosen, comparison, shown)
    elif view == "Cost":
        drawings.cost_panel(comparison, shown)
    elif view == "Differences":
        drawings.difference_panel(comparison, shown)
        tables.verdicts(comparison, shown)
    elif view == "Budget":
        tables.at_budget(comparison, shown)
    elif view == "Settings":
        tables.differences(comparison, shown)
    elif view == "Anatomy":
        closely.anatomy_panel(chosen, comparison, shown)
    elif view == "Examples":
        closely.example_panel(chosen, comparison, shown)
    else:
        exporting.panel(chosen, comparison, shown)


page()
