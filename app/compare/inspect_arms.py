"""Two arms looked at closely: their adapters taken apart, and the examples they disagree on."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import state, theme, widgets
from app.compare import controls
from app.compare.figure_panels import draw, pure
from app.compare.sources import Chosen
from cdka import formatting
from cdka.compare.anatomy import read_adapter
from cdka.compare.budget import TOLERANCE
from cdka.compare.comparison import Comparison
from cdka.compare.examples import preview, texts
from cdka.compare.figures.anatomy import factor_figure, rank_figure, spectrum_figure
from cdka.errors import CdkaError
from cdka.formatting import p_value
from cdka.models.catalogue import find_model
from cdka.stats.mcnemar import mcnemar, paired_answers
from cdka.tasks.catalogue import find_task

MAX_EXAMPLES = 24
SIDES = ("only A right", "only B right", "both wrong")


def anatomy_panel(chosen: Chosen, comparison: Comparison, shown: list[str]) -> None:
    """One adapter's factors and blocks; its singular values beside those of another at about the same budget."""
    arms = comparison.arms.set_index("arm").loc[shown]
    adapters = [arm for arm in shown if arms.loc[arm, "method"] in ("cdka", "lora", "lokr") and arms.loc[arm, "n"] > 0]
    if not adapters:
        raise CdkaError("the anatomy needs a finished CDKA, LoRA or LoKr run: none is shown.")
    first, second, seeds = st.columns([2, 2, 1])
    with first:
        a = controls.pick_arm("arm_a", "Adapter", comparison, adapters, _best_matched(comparison, arms, adapters))
    seeds_of = {arm: set(arms.loc[arm, "seeds"]) for arm in adapters}
    rivals = [arm for arm in adapters if arm != a and seeds_of[arm] & seeds_of[a]]
    rivals.sort(key=lambda arm: _distance(arms, a, arm))
    with second:
        b = controls.pick_arm("arm_b", "Beside (LoRA of the nearest budget first)", comparison, rivals, 0)
    picked = [arm for arm in (a, b) if arm]
    with seeds:
        seed = controls.pick_seed(comparison, picked, lambda run_id: chosen.source.adapter_dir(run_id) is not None)
    runs = {arm: controls.run_of(comparison, arm, seed) for arm in picked}
    layers = {comparison.labels[arm]: _adapter(chosen, run_id) for arm, run_id in runs.items()}
    own = layers[comparison.labels[a]]
    names = [factors.layer for factors in own]
    layer_box, component_box = st.columns([3, 1])
    with layer_box:
        layer = controls.pick("layer", "Layer", names)
    factors = own[names.index(layer)]
    with component_box:
        component = controls.pick("component", "Component", list(range(1, factors.components.r + 1)))
    origin = f"Runs {' and '.join(runs.values())} of {comparison.name}, seed {seed}."
    counts = ", ".join(f"{name} {sum(f.num_params for f in found):,}" for name, found in layers.items())
    draw(
        pure(factor_figure, factors, component - 1, columns=2 if theme.is_narrow() else 4),
        "factors",
        f"Factors and blocks of {layer}",
        caption=f"Red is positive, blue negative; thin lines part the r2 columns of blocks in ΔW; "
        f"right, the norm of each block. Adapter parameters: "
        f"{counts}.",
        source=origin,
    )
    left, right = st.columns(2)
    same = {name: next((f for f in found if f.layer == layer), None) for name, found in layers.items()}
    with left:
        draw(
            pure(spectrum_figure, {name: one for name, one in same.items() if one is not None}),
            "spectrum",
            f"Singular values of delta W in {layer}",
            caption=f"ΔW of {layer}.",
            source=origin,
        )
    with right:
        draw(pure(rank_figure, layers), "ranks", "Effective rank of delta W in every layer", caption="", source=origin)


def _best(comparison: Comparison, arms: pd.DataFrame, among: list[str]) -> int:
    """The place of the best arm among some."""
    means = arms.loc[among, "mean"].reset_index(drop=True)
    return int(means.argmax() if comparison.measure.higher_is_better else means.argmin())


def _best_matched(comparison: Comparison, arms: pd.DataFrame, among: list[str]) -> int:
    """The place of the best CDKA arm that has a LoRA arm of its own budget beside it, else of the best arm."""
    counts, family = arms.loc[among, "num_params"].astype(float), arms.loc[among, "family"]
    rivals = counts[family == "lora"].to_numpy()
    matched = [arm for arm in among if family[arm] == "cdka" and (abs(rivals / counts[arm] - 1) <= TOLERANCE).any()]
    return among.index(matched[_best(comparison, arms, matched)]) if matched else _best(comparison, arms, among)


def _distance(arms: pd.DataFrame, a: str, b: str) -> tuple:
    ours, theirs = arms.loc[a], arms.loc[b]
    near = abs(math.log(float(theirs["num_params"]) / float(ours["num_params"])))
    return (theirs["model"], theirs["task"]) != (ours["model"], ours["task"]), theirs["family"] != "lora", near


def _adapter(chosen: Chosen, run_id: str):
    directory = chosen.source.adapter_dir(run_id)
    if directory is None:
        raise CdkaError(f"run {run_id} has no adapter here: it was removed, or left out of the bundle.")
    return _read(str(directory), directory.stat().st_mtime_ns)


@st.cache_resource(max_entries=16, show_spinner=False)
def _read(directory: str, _changed: int):
    from pathlib import Path

    return read_adapter(Path(directory))


def example_panel(chosen: Chosen, comparison: Comparison, shown: list[str]) -> None:
    """McNemar's table of two runs of one seed, and the examples where one is right and the other wrong."""
    arms = comparison.arms.set_index("arm").loc[shown]
    known = [arm for arm in shown if arms.loc[arm, "n"] > 0]
    if len(known) < 2:
        raise CdkaError("examples are compared between two finished arms: fewer are shown.")
    first, second, seeds = st.columns([2, 2, 1])
    with first:
        a = controls.pick_arm("arm_a", "A", comparison, known, _best(comparison, arms, known))
    task = arms.loc[a, "task"]
    rivals = [arm for arm in known if arm != a and arms.loc[arm, "task"] == task]
    if not rivals:
        raise CdkaError(f"examples are compared within one task: no other arm shown here was tested on {task}.")
    rivals.sort(key=lambda arm: _distance(arms, a, arm))
    with second:
        b = controls.pick_arm("arm_b", "B (LoRA of the nearest budget first)", comparison, rivals, 0)
    with seeds:
        seed = controls.pick_seed(comparison, [a, b])
    found = [chosen.source.predictions(controls.run_of(comparison, arm, seed)) for arm in (a, b)]
    if any(one.empty for one in found):
        raise CdkaError("one of these runs stored no predictions: retry it to have them.")
    test, both = mcnemar(*found), paired_answers(*found)
    name_a, name_b = comparison.labels[a], comparison.labels[b]
    side = (
        st.segmented_control(
            "Show", SIDES, default=SIDES[0], required=True, label_visibility="collapsed", **state.bound("side")
        )
        or SIDES[0]
    )
    unread = (
        f" Unparsed answers: A {test.unparsed_a}, B {test.unparsed_b}." if test.unparsed_a or test.unparsed_b else ""
    )
    widgets.html_block(
        f"Of {formatting.plural(test.examples, 'test example')}, {test.both_right} are answered right by both, "
        f"<b>{test.only_a}</b> by A alone ({html.escape(name_a)}), <b>{test.only_b}</b> by B alone "
        f"({html.escape(name_b)}), {test.both_wrong} by neither. McNemar's exact "
        f"{p_value(test.p)} for this seed alone.{unread}"
    )
    a_right, b_right = both["right_a"], both["right_b"]
    mask = (a_right & ~b_right, b_right & ~a_right, ~a_right & ~b_right)[SIDES.index(side)]
    rows = both[mask].head(MAX_EXAMPLES)
    if rows.empty:
        widgets.remark(
            f"No test example is {'wrong in both' if side == SIDES[2] else 'right in ' + side[5] + ' alone'}."
        )
        return
    column, shape = _inputs(chosen, comparison, a, task, rows["example"].to_list())
    table = pd.DataFrame(
        {
            "Example": rows["example"],
            **column,
            "Label": rows["label"].astype(str),
            f"A: {name_a}": _answers(rows["predicted_a"]),
            f"B: {name_b}": _answers(rows["predicted_b"]),
        }
    )
    st.dataframe(table, hide_index=True, width="stretch", key="compare-examples", alt=f"Examples where {side}", **shape)
    widgets.caption(f"The first {len(rows)} of {int(mask.sum())} such examples, from the test split, seed {seed}.")


def _inputs(
    chosen: Chosen, comparison: Comparison, arm: str, task: str, examples: list[int]
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The column of what the examples were, and how to lay it out: pictures at once, texts when asked for."""
    images = preview(task, examples)
    if images:
        return {"Input": images}, {"column_config": {"Input": st.column_config.ImageColumn()}, "row_height": 44}
    spec = comparison.settings[arm]
    if not chosen.sweep_ids and not _embedded(spec):
        return {}, {}  # somebody's bundle may name any file or repository: nothing is fetched for it
    if not st.toggle("Show what was asked", key="compare-asked-texts", help="Reads the task's data: some seconds."):
        return {}, {}
    try:
        with st.spinner("Reading the test examples", show_time=True):
            found = _texts(json.dumps(dict(spec)), tuple(examples))
    except CdkaError as refusal:
        widgets.remark(str(refusal))
        return {}, {}
    return {"Input": [found.get(int(example), "") for example in examples]}, {}


def _embedded(spec: Mapping[str, Any]) -> bool:
    try:
        return find_task(spec["task"]).embedded and find_model(spec["model"]).embedded
    except CdkaError:
        return False


@st.cache_data(max_entries=64, show_spinner=False)
def _texts(spec: str, examples: tuple[int, ...]) -> dict[int, str]:
    return texts(json.loads(spec), examples)


def _answers(column: pd.Series) -> list[str]:
    return ["could not be read" if pd.isna(value) else str(value) for value in column]
