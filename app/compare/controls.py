"""Controls of the question, and of the arms for which it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import state, widgets
from cdka.compare.bundle import Bundle
from cdka.compare.comparison import ALL_PAIRS, Comparison
from cdka.compare.figures.style import thin
from cdka.compare.measure import BEST, FINAL, STEP, Measure, measured_along_the_way, metrics_of, usual_metric
from cdka.errors import CdkaError
from cdka.runs.metrics import full_name, words_of
from cdka.runs.states import KEPT

FACTORS = ("task", "model", "method", "r1", "r2", "r", "lr")


_EVERY = "every other arm"
"""Options by the words in the address: Streamlit binds the words of an option, not its value."""


_BEST = "best on validation"


def kept(key: str, known: list[str]) -> None:
    """Forget an address's value that this selection does not have, telling so."""
    value = st.session_state.get(key)
    if value and value not in known:
        st.session_state[key] = state.default(key) if state.default(key) in known else known[0]
        warning = f"This selection has no {key} {value!r}: showing {st.session_state[key] or 'the default'}."
        st.warning(widgets.literal(warning), icon=None)


def measure(frame: pd.DataFrame, steps: Sequence[int], which: DeltaGenerator, where: DeltaGenerator) -> Measure:
    """Asks, in the two places given, which number is compared and where along a run it is read."""
    by_words = {words_of(name): name for name in dict.fromkeys([usual_metric(frame), *metrics_of(frame)])}
    _old_names()
    kept("metric", list(by_words))
    picked = which.selectbox(
        "Metric", list(by_words), on_change=_read_at_the_end, args=(by_words,), **state.bound("metric")
    )
    metric = by_words[picked]
    places = {"at the end": (FINAL, None)}
    if measured_along_the_way(metric) and steps:
        places |= {_BEST: (BEST, None)} | {f"at step {step}": (STEP, step) for step in steps}
    kept("at", list(places))
    asked = st.session_state.get("at")
    offered = [*list(places)[:2], *(list(places)[2:][i] for i in thin(max(0, len(places) - 2), 30))]
    at = where.selectbox(
        "Read",
        list(dict.fromkeys([*offered, *([asked] if asked in places else [])])),
        **state.bound("at"),
        help="At the end: test metrics are read once. Best and at a step: for metrics of the validation split.",
    )
    return Measure(metric, *places[at])


def _old_names() -> None:
    """Understand an address of 0.1.0, where ``accuracy`` was read on test at the end and on validation elsewhere."""
    asked, at = (
        st.session_state.get(name) or st.query_params.get(name) or state.default(name) for name in ("metric", "at")
    )
    short = "accuracy" if asked == state.default("metric") else asked.replace(" ", "_")
    name = full_name(short, along_the_way=at != state.default("at"))
    if "/" in name:
        st.session_state["metric"] = words_of(name)


def _read_at_the_end(by_words: dict[str, str]) -> None:
    """Leave the best and the step behind where the metric just picked has only a value at the end."""
    if not measured_along_the_way(by_words[st.session_state["metric"]]):
        st.session_state["at"] = state.default("at")


def as_claimed(bundle: Bundle) -> dict[str, Any]:
    """The page's settings that show what a bundle claims, as its sender saw it: nothing hidden."""
    measure, against = bundle.measure(), bundle.reference()
    found = {name: state.default(name) for name in ("view", "only", "hide", "metric", "at", "against")}
    found["metric"] = words_of(measure.metric)
    found["at"] = {FINAL: found["at"], BEST: _BEST, STEP: f"at step {measure.step}"}[measure.at]
    if against is not None:
        found["against"] = _EVERY if against == ALL_PAIRS else against
    return found


def reference(labels: list[str]) -> str | None:
    """Asks what the others are compared with; None for the default, chosen without looking at results."""
    usual = state.default("against")
    known = [usual, _EVERY, *labels]
    kept("against", known)
    chosen = st.selectbox(
        "Against",
        known,
        **state.bound("against"),
        help="More comparisons need more seeds: Holm corrects for all of them together.",
    )
    return {usual: None, _EVERY: ALL_PAIRS}.get(chosen, chosen)


def shown(comparison: Comparison) -> list[str]:
    """Asks which arms are shown, and returns them. Statistics always use every arm: showing fewer changes no number."""
    arms = comparison.arms
    tokens = [
        f"{factor}={_level(level)}"
        for factor in FACTORS
        if arms[factor].nunique() > 1
        for level in sorted(arms[factor].dropna().unique())
    ]
    for key, known in (("only", tokens), ("hide", arms["arm_label"].to_list())):
        held = st.session_state.get(key)
        if held and any(item not in known for item in held):
            st.session_state[key] = [item for item in held if item in known]
    only = st.multiselect("Show only", tokens, placeholder="everything", select_all=False, **state.bound("only"))
    hide = st.multiselect(
        "Hide", arms["arm_label"].to_list(), placeholder="nothing", select_all=False, **state.bound("hide")
    )
    keep = ~arms["arm_label"].isin(hide)
    wanted: dict[str, list[str]] = {}
    for token in only:
        factor, _, level = token.partition("=")
        wanted.setdefault(factor, []).append(level)
    for factor, levels in wanted.items():
        keep &= arms[factor].map(lambda value: "" if pd.isna(value) else _level(value)).isin(levels)
    return arms.loc[keep, "arm"].to_list()


def _level(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def pick_arm(key: str, title: str, comparison: Comparison, arms: list[str], fallback: int) -> str | None:
    """Asks for one arm by label; None where there is none to pick."""
    labels = [comparison.labels[arm] for arm in arms]
    if not labels:
        return None
    if st.session_state.get(key) not in labels:
        st.session_state[key] = labels[min(fallback, len(labels) - 1)]
    label = st.selectbox(title, labels, **state.bound(key))
    return arms[labels.index(label)]


def pick(key: str, title: str, options: list) -> Any:
    """Asks for one of ``options``, the first unless the address says otherwise."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    return st.selectbox(title, options, **state.bound(key))


def pick_seed(comparison: Comparison, arms: list[str], usable: Callable[[str], bool] = lambda run_id: True) -> int:
    """Asks for one of the seeds of which all ``arms`` have a ``usable`` run. Raises CdkaError where they share none."""
    finished = comparison.frame[comparison.frame["status"].isin(KEPT)]
    shared = set.intersection(*(set(finished.loc[finished["arm"] == arm, "seed"].astype(int)) for arm in arms))
    seeds = [seed for seed in sorted(shared) if all(usable(run_of(comparison, arm, seed)) for arm in arms)]
    if not seeds:
        names = " and ".join(comparison.labels[arm] for arm in arms)
        what = "an adapter here: they were removed, or left out of the bundle" if shared else "a finished run"
        raise CdkaError(f"runs of one seed are needed for this: {names} share no seed with {what}.")
    return pick("arm_seed", "Seed", seeds)


def run_of(comparison: Comparison, arm: str, seed: int) -> str:
    """The newest kept run of an arm and seed."""
    frame = comparison.frame
    own = frame[(frame["arm"] == arm) & (frame["seed"] == seed) & frame["status"].isin(KEPT)]
    return own.sort_values("created_at")["run_id"].iloc[-1]
