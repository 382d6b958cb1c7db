"""Compare: answers with error bars."""

from __future__ import annotations

import html
from datetime import UTC, datetime

import streamlit as st

from app import state, widgets
from app.compare import controls, export_panel, figure_panels, inspect_arms, open_adapter, sources, tables
from app.compare.headline_card import headline_html
from cdka.compare.headline import exchange, headline
from cdka.formatting import plural
from cdka.stats.paired import UNRESOLVED
from cdka.stats.trend import sentence as trend_sentence

VIEWS = (
    "Cost",
    "Curves",
    "Map",
    "Differences",
    "Budget",
    "Settings",
    "Anatomy",
    "Examples",
    "Open an adapter",
    "Export",
)


def example_note(names: list[str], source) -> None:
    """That this is the example, or somebody's bundle, and the button that makes the reader's own."""
    if names[0] != sources.EXAMPLE:
        return
    runs = source.frame()
    made = datetime.fromtimestamp(runs["created_at"].min(), UTC)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="compare-example"):
        widgets.html_block(
            f"<b>An example, not yours:</b> {plural(len(runs), 'run')} that this program trained on a CPU on "
            f"{made:%-d %B %Y}. Your own sweeps take its place; a claim bundle is imported under Export."
        )
        if st.button("Choose configurations and fine-tune them", type="primary", key="fill-compare"):
            state.go("design")


def findings(comparison) -> None:
    """The trends, the count of verdicts, and what is missing, in sentences."""
    found = exchange(comparison)
    lines = [] if found is None else [html.escape(found.sentence(comparison.measure.header))]
    lines += [
        html.escape(trend_sentence(row, comparison.trend_header(row))).replace(
            f" {row['factor']} ", f" {widgets.letter_html(row['factor'])} ", 1
        )
        for _, row in comparison.trends.iterrows()
    ]
    if len(comparison.verdicts):
        resolved = comparison.verdicts[comparison.verdicts["verdict"] != UNRESOLVED]
        named_pairs = ", ".join(
            f"{html.escape(comparison.labels[row['a']])} {row['verdict']}" for _, row in resolved.head(4).iterrows()
        )
        named = html.escape(", ".join(comparison.labels[arm] for arm in comparison.references))
        against = "every other arm" if comparison.all_pairs else named
        pairs = plural(len(comparison.verdicts), "comparison")
        rest = f"{len(resolved)} of {pairs} with {against} {'is' if len(resolved) == 1 else 'are'} resolved"
        rest += " with Holm's correction over all of them" * (len(comparison.verdicts) > 1)
        left = comparison.verdicts["more_seeds"].dropna()
        hint = f"; the next would need about {plural(left.min(), 'more seed')} by the same rule" if len(left) else ""
        if comparison.verdicts["p"].isna().all():
            hint = "; it takes at least two shared seeds"
        lines.append(f"{rest}{': ' + named_pairs if named_pairs else ''}{hint}.")
    items = "".join(f"<li>{line}</li>" for line in lines)
    notes = "".join(f'<li class="cdka-quiet">{html.escape(note)}</li>' for note in comparison.missing())
    widgets.html_block(f'<ul style="margin:0;padding-left:1.1em;font-size:.93em">{items}{notes}</ul>')


def page() -> None:
    state.arrive("compare")
    widgets.heading("Compare", "What did the runs show, with how much certainty?")
    export_panel.follow_import()
    known = sources.options()
    what, which, where, against = st.columns([2.2, 1.2, 1.2, 1.6])
    with what:
        names = sources.widget(known)
    chosen = sources.load(names)
    st.set_page_config(page_title=f"{chosen.source.name[:60]} · Compare · CDKA Studio")
    example_note(names, chosen.source)
    measure = controls.measure(chosen.source.frame(), sources.steps(chosen.source), which, where)
    labels = sources.comparison(chosen, measure, None).arms["arm_label"].to_list()
    with against:
        comparison = sources.comparison(chosen, measure, controls.reference(labels))
    with st.container(border=True, key="compare-headline"):
        widgets.html_block(headline_html(headline(comparison), comparison.measure.header))
    if chosen.live:
        sources.watch(names, chosen.fingerprint)
    view = (
        st.segmented_control(
            "View", VIEWS, default=VIEWS[0], required=True, label_visibility="collapsed", **state.bound("view")
        )
        or VIEWS[0]
    )
    with st.container(key="compare-body"):
        main, side = st.columns([2.1, 1], gap="medium")
    with side:
        with st.expander("Show only, or hide"):
            shown = controls.shown(comparison)
        if len(shown) < len(comparison.arms):
            widgets.remark(f"{len(shown)} of {plural(len(comparison.arms), 'arm')} shown; every number uses them all.")
        tables.arms(comparison, shown)
        findings(comparison)
    with main, widgets.errors_shown():
        if not shown:
            st.info("Every arm is hidden. Clear “Show only” or “Hide” on the right.")
            return
        draw(view, chosen, comparison, shown)


def draw(view: str, chosen, comparison, shown: list[str]) -> None:
    """The chosen view."""
    if view == "Curves":
        figure_panels.curve_panel(chosen, comparison, shown)
    elif view == "Map":
        figure_panels.map_panel(chosen, comparison, shown)
    elif view == "Cost":
        figure_panels.cost_panel(comparison, shown)
    elif view == "Differences":
        figure_panels.difference_panel(comparison, shown)
        if len(comparison.verdicts):
            tables.verdicts(comparison, shown)
    elif view == "Budget":
        tables.at_budget(comparison, shown)
    elif view == "Settings":
        tables.differences(comparison, shown)
    elif view == "Anatomy":
        inspect_arms.anatomy_panel(chosen, comparison, shown)
    elif view == "Examples":
        inspect_arms.example_panel(chosen, comparison, shown)
    elif view == "Open an adapter":
        open_adapter.panel()
    else:
        export_panel.panel(chosen, comparison, shown)


page()
