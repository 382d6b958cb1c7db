"""Your own data before training: rows, labels and splits, lengths, and the first batch with what the loss counts."""

from __future__ import annotations

import html
import json
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app import charts, theme, widgets
from cdka.formatting import plural
from cdka.runs.resolve import spec_for
from cdka.runs.spec import RunSpec
from cdka.tasks.files.preview import Preview, histogram, preview, token_preview
from cdka.tasks.rows import SPLITS

ROWS, SHOWN_CHARACTERS = 50, 300
ENDS = 40
"""Tokens shown at either end of a long stretch."""


def show_data(model: str, task: str, options: dict[str, Any], max_length: int | str | None) -> None:
    """Draws what training on these data would see. Raises CdkaError for data that cannot be used."""
    seen = _seen(task, json.dumps(options, sort_keys=True))
    with st.container(border=True, key="own-data"):
        sizes = ", ".join(f"{seen.examples[split]:,} {split}" for split in SPLITS)
        st.markdown(f"##### Your data: {sizes}")
        for note in seen.notes:
            widgets.remark(note)
        names = ["Rows", "Labels and lengths" if len(seen.labels) else "Lengths"]
        if task != "local-images":
            names.append("Tokens and loss mask")
        drawn = st.tabs(names)
        with drawn[0]:
            if seen.first:
                widgets.html_block(_first_example(seen.first))
            st.dataframe(seen.head.astype(str), hide_index=True, height=230)
        with drawn[1]:
            if len(seen.labels):
                st.dataframe(seen.labels.rename_axis("label").reset_index(), hide_index=True, height="content")
            if seen.lengths:
                _show_lengths(seen.lengths["train"], "characters", None)
        if task != "local-images":
            with drawn[2]:
                _tokens(spec_for(model, task, max_length=max_length, task_options=options))


def _first_example(fields: Mapping[str, str]) -> str:
    """The fields of an example as a model gets them, each shortened."""
    lines = [
        f'<div><span class="cdka-quiet">{html.escape(name)}:</span> '
        f"{html.escape(textwrap.shorten(text, SHOWN_CHARACTERS, placeholder=' …'))}</div>"
        for name, text in fields.items()
    ]
    return f'<div class="cdka-quiet">The first training example, as the model gets it</div>{"".join(lines)}'


@st.cache_data(show_spinner=False, max_entries=16)
def _seen(task: str, options: str) -> Preview:
    return preview(task, json.loads(options), rows=ROWS)


@st.cache_data(show_spinner="Asking the model's tokenizer", max_entries=16)
def _token_view(spec: str) -> dict[str, Any]:
    return token_preview(RunSpec.from_dict(json.loads(spec)))


def _tokens(spec: RunSpec) -> None:
    key = json.dumps(spec.to_dict(), sort_keys=True)
    if st.session_state.get("data-tokens") != key:
        widgets.remark(
            "The first batch as the model reads it, which tokens the loss counts, and how long examples are."
        )
        st.button("Show the tokens", key="data-show-tokens", on_click=_want_tokens, args=(key,))
        return
    with widgets.errors_shown():
        view = _token_view(key)
        longer = sum(view["longer"].values())
        if longer:
            widgets.error(
                f"Longer than {view['max_length']:,} tokens, and cut: {plural(longer, 'example')}, "
                + ", ".join(f"{number:,} {split}" for split, number in view["longer"].items() if number)
                + ". Raise the longest sequence in the form, or shorten them."
            )
        for note in view["notes"]:
            if "unknown to" in note:
                widgets.error(note)
        widgets.html_block("".join(_example(example, view["labels"]) for example in view["batch"]))
        widgets.caption("The first training batch. The loss counts what is marked, and nothing else.")
        _show_lengths(view["lengths"]["train"], "tokens", view["max_length"])


def _want_tokens(key: str) -> None:
    st.session_state["data-tokens"] = key


def _example(example: dict[str, Any], labels: Sequence[str]) -> str:
    runs = [
        (judged, [token for token, _ in run])
        for judged, run in groupby(zip(example["tokens"], example["judged"], strict=True), key=lambda pair: pair[1])
    ]
    pieces = "".join(f"<b>{_short(tokens)}</b>" if judged else _short(tokens) for judged, tokens in runs)
    label = f" <b>{html.escape(labels[example['label']])}</b>" if "label" in example else ""
    return f'<div class="cdka-tokens">{pieces}{label}</div>'


def _short(tokens: Sequence[str]) -> str:
    """The tokens as HTML; of very many, the first and the last."""
    if len(tokens) <= 3 * ENDS:
        return html.escape("".join(tokens))
    first, last = html.escape("".join(tokens[:ENDS])), html.escape("".join(tokens[-ENDS:]))
    return f'{first} <i class="cdka-quiet">… {len(tokens) - 2 * ENDS:,} tokens …</i> {last}'


def _show_lengths(lengths: Sequence[int], unit: str, limit: int | None) -> None:
    """Histogram of the lengths of training examples in ``unit``; a rule where ``limit`` cuts."""
    bins = pd.DataFrame(histogram(lengths, 24), columns=["from", "to", "examples"])
    bins["end"] = bins["to"] + 1
    layers = [
        alt.Chart(bins)
        .mark_rect(color=theme.accent(), stroke=None)  # a bar over a range of x would lie down, 5 pixels thin
        .encode(
            x=alt.X("from:Q", title=f"{unit} per training example", scale=alt.Scale(zero=False)),
            x2="end:Q",
            y=alt.Y("examples:Q"),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip("from:Q"), alt.Tooltip("to:Q"), alt.Tooltip("examples:Q")],
        )
    ]
    if limit is not None and limit <= 1.5 * max(lengths):
        rule = alt.Chart(pd.DataFrame({"limit": [limit], "name": ["cut here"]})).encode(x="limit:Q")
        layers.append(rule.mark_rule(color=theme.ink(), strokeDash=[4, 3]))
        layers.append(
            rule.mark_text(color=theme.ink(), align="right", dx=-4, fontSize=11).encode(text="name:N", y=alt.value(8))
        )
    title = f"How long are the examples? {min(lengths):,} to {max(lengths):,} {unit}"
    chart = charts.altair(alt.layer(*layers), title, height=170)
    charts.show_altair(chart, f"lengths-{unit}", f"Histogram of the {unit} of each training example")
