"""Two arms looked at closely: their adapters taken apart, and the examples they disagree on."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import parts, words
from app.compare import controls
from app.compare.drawings import _draw, look
from app.compare.selection import Chosen
from cdka.compare.anatomy import read_adapter
from cdka.compare.comparison import Comparison
from cdka.compare.examples import preview
from cdka.compare.figures.anatomy import factor_figure, rank_figure, spectrum_figure
from cdka.compare.mcnemar import mcnemar, paired_answers
from cdka.errors import CdkaError

MOST_EXAMPLES = 24


def anatomy_panel(chosen: Chosen, comparison: Comparison, shown: list[str]) -> None:
    """One adapter's factors and blocks; its singular values beside those of another at about the same budget."""
    arms = comparison.arms.set_index("arm").loc[shown]
    adapters = [arm for arm in shown if arms.loc[arm, "method"] in ("cdka", "lora") and arms.loc[arm, "n"] > 0]
    if not adapters:
        raise CdkaError("the anatomy needs a finished CDKA or LoRA run: none is shown.")
    first, second, seeds = st.columns([2, 2, 1])
    with first:
        best = int(arms.loc[adapters, "mean"].reset_index(drop=True).argmax())
        a = controls.pick_arm("arm_a", "Adapter", comparison, adapters, best)
    seeds_of = {arm: set(arms.loc[arm, "seeds"]) for arm in adapters}
    rivals = [arm for arm in adapters if arm != a and seeds_of[arm] & seeds_of[a]]
    rivals.sort(key=lambda arm: _distance(arms, a, arm))
    with second:
        b = controls.pick_arm("arm_b", "Beside (LoRA of the nearest budget first)", comparison, rivals, 0)
    with seeds:
        seed = controls.pick_seed(comparison, [arm for arm in (a, b) if arm])
    layers = {comparison.labels[arm]: _adapter(chosen, controls.run_of(comparison, arm, seed)) for arm in (a, b) if arm}
    own = layers[comparison.labels[a]]
    names = [factors.layer for factors in own]
    layer_box, component_box = st.columns([3, 1])
    layer = layer_box.selectbox("Layer", names, key="compare-layer")
    factors = own[names.index(layer)]
    component = component_box.selectbox("Component", range(factors.components[2]), format_func=lambda i: f"i = {i + 1}")
    _draw(factor_figure(factors, component, look=look()), "compare-factors", f"Factors and blocks of {layer}")
    left, right = st.columns(2)
    same = {
        name: found[[f.layer for f in found].index(layer)]
        for name, found in layers.items()
        if layer in [f.layer for f in found]
    }
    with left:
        _draw(spectrum_figure(same, look=look()), "compare-spectrum", f"Singular values of delta W in {layer}")
    with right:
        _draw(rank_figure(layers, look=look()), "compare-ranks", "Effective rank of delta W in every layer")
    counts = ", ".join(f"{name} {sum(f.num_params for f in found):,}" for name, found in layers.items())
    parts.caption(
        f"Seed {seed}. Adapter parameters: {counts}. Red is positive, blue negative; blue lines part the r2 columns of "
        "blocks in ΔW."
    )


def _distance(arms: pd.DataFrame, a: str, b: str) -> tuple:
    ours, theirs = arms.loc[a], arms.loc[b]
    near = abs(float(theirs["num_params"]) / float(ours["num_params"]) - 1)
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
    known = comparison.arms[comparison.arms["arm"].isin(shown) & (comparison.arms["n"] > 0)]["arm"].to_list()
    if len(known) < 2:
        raise CdkaError("examples are compared between two finished arms: fewer are shown.")
    first, second, seeds = st.columns([2, 2, 1])
    with first:
        a = controls.pick_arm("arm_a", "A", comparison, known, len(known) - 1)
    with second:
        b = controls.pick_arm("arm_b", "B", comparison, [arm for arm in known if arm != a], 0)
    with seeds:
        seed = controls.pick_seed(comparison, [a, b])
    found = [chosen.source.predictions(controls.run_of(comparison, arm, seed)) for arm in (a, b)]
    if any(one.empty for one in found):
        raise CdkaError("one of these runs stored no predictions: retry it to have them.")
    test, both = mcnemar(*found), paired_answers(*found)
    name_a, name_b = comparison.labels[a], comparison.labels[b]
    side = st.segmented_control(
        "Show", [f"only A right ({test.only_a})", f"only B right ({test.only_b})", f"both wrong ({test.both_wrong})"],
        default=f"only A right ({test.only_a})", key="compare-side", label_visibility="collapsed",
    )  # fmt: skip
    p = "p < 0.001" if test.p < 0.001 else f"p = {test.p:.2g}"
    unread = (
        f" Unparsed answers: A {test.unparsed_a}, B {test.unparsed_b}." if test.unparsed_a or test.unparsed_b else ""
    )
    parts.show(
        f"Of {words.plural(test.examples, 'test example')}, <b>{test.only_a}</b> only A ({name_a}) has right, "
        f"<b>{test.only_b}</b> only B ({name_b}): McNemar's exact {p} for this seed alone.{unread}"
    )
    side = side or "only A"
    wrong_both = ~both["right_a"] & ~both["right_b"]
    mask = (
        wrong_both
        if side.startswith("both")
        else both["right_a"] & ~both["right_b"]
        if "A" in side
        else both["right_b"] & ~both["right_a"]
    )
    rows = both[mask].head(MOST_EXAMPLES)
    task = comparison.arms.set_index("arm").loc[a, "task"]
    images = preview(task, rows["example"].to_list())
    table = pd.DataFrame(
        {
            "Example": rows["example"], **({"Input": images} if images else {}), "Label": rows["label"].astype(str),
            f"A: {name_a}": _answers(rows["predicted_a"]), f"B: {name_b}": _answers(rows["predicted_b"]),
        }
    )  # fmt: skip
    as_image = (
        {"Input": st.column_config.ImageColumn(width="small")} if images and images[0].startswith("data:") else {}
    )
    st.dataframe(table, hide_index=True, width="stretch", column_config=as_image, row_height=44 if as_image else None,
                 key="compare-examples", alt=f"Examples where {side}")  # fmt: skip
    parts.caption(f"The first {len(rows)} of {int(mask.sum())} such examples, from the test split, seed {seed}.")


def _answers(column: pd.Series) -> list[str]:
    return ["could not be read" if pd.isna(value) else str(value) for value in column]
