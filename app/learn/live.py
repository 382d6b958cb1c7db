"""Real runs inside a chapter: ordinary runs of the store, started by a button, followed live, found again later."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import altair as alt
import pandas as pd
import streamlit as st

from app import charts, data, theme, widgets
from app.learn import drawing
from cdka import formatting, palette
from cdka.compare.figures.style import thin
from cdka.engine.local import ensure_dispatcher
from cdka.runs.metrics import TEST_ACCURACY, measure_of, words_of
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store
from cdka.sweep.pack import pack

EVERY_S = 1.0
COLOURS = (theme.R, theme.R1, theme.R2, palette.HIGHLIGHT)
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])

Arm = tuple[str, RunSpec]
"""A name in the figure and the run that it stands for."""


def find(store: Store, specs: Sequence[RunSpec]) -> list[Run | None]:
    """The newest run of each spec, None where it was never asked for. Everybody's runs count: equal spec, equal run."""
    known: dict[str, Run] = {}
    for spec in specs:
        of_every_version = {name: getattr(spec, name) for name in ("model", "task", "method", "steps", "lr", "seed")}
        for run in store.runs(settings=of_every_version):
            known[repr(run.spec.to_dict())] = run
    return [known.get(repr(spec.to_dict())) for spec in specs]


def _to_do(runs: Sequence[Run | None]) -> list[Run | None]:
    """Those that were never asked for (None) and those that ended without a result."""
    return [run for run in runs if run is None or (run.status.can_retry() and not run.status.is_kept())]


def start(specs: Sequence[RunSpec]) -> None:
    """Ask for what was never run and retry what did not end well; what is done or under way is left alone.

    What can train together does, as in a sweep.
    """
    store = data.store()
    found = find(store, specs)
    store.retry([run.run_id for run in _to_do(found) if run is not None])
    missing = [specs[i] for i, run in enumerate(found) if run is None and specs.index(specs[i]) == i]
    if missing:
        store.submit(missing, packs=pack(missing)[0])
    ensure_dispatcher(store)


Table = Callable[[Sequence[tuple[str, Run]]], str]
"""Makes the HTML table of the named runs."""
Outcome = Callable[[Store, Sequence[tuple[str, Run]]], str]
"""Makes a sentence about the named runs of a store; empty while they train."""


def panel(
    key: str,
    intro: str,
    arms: Sequence[Arm],
    *,
    field: str,
    outcome: Outcome | None = None,
    colours: Sequence[str] = COLOURS,
    level: tuple[str, float] | None = None,
    table: Table | None = None,
) -> None:
    """The button, then the curves of the metric ``field`` and the ends.

    ``outcome`` writes the sentence under the curves; ``colours`` are those of the arms, LoRA's apart; ``level`` is a
    name and a height that the curves are read against. Runs of one name are drawn as their mean. ``table`` replaces
    the usual table of runs.
    """
    store = data.store()
    specs = [spec for _, spec in arms]
    found = find(store, specs)
    missing = len(_to_do(found))
    st.markdown(intro)
    if missing:
        label = f"Train {formatting.plural(missing, 'run')}, {specs[0].steps} steps"
        st.button(label, type="primary", key=f"{key}-start", on_click=start, args=(specs,))
    if any(run is not None for run in found):
        going = any(run is not None and not run.status.is_finished() for run in found)
        _follow(key, arms, field, live=going, outcome=outcome, colours=colours, level=level, table=table or table_html)
    else:
        drawing.placeholder("The curves appear here while the runs train, on this machine.")


def _follow(
    key: str,
    arms: Sequence[Arm],
    field: str,
    *,
    live: bool,
    outcome: Outcome | None,
    colours: Sequence[str],
    level: tuple[str, float] | None,
    table: Table,
) -> None:
    @st.fragment(run_every=EVERY_S if live else None, key=f"{key}-follow")
    def show() -> None:
        store = data.store()
        runs = find(store, [spec for _, spec in arms])
        if any(run is not None and not run.status.is_finished() for run in runs):
            ensure_dispatcher(store)
        named = [(name, run) for (name, _), run in zip(arms, runs, strict=True) if run is not None]
        charts.show_altair(
            curve(store, named, field, colours, level),
            key=f"{key}-curve",
            width="stretch",
            alt=f"{measure_of(field)} by step for {', '.join(name for name, _ in named)}",
        )
        if outcome is not None and (sentence := outcome(store, named)):
            st.markdown(sentence)
        widgets.html_block(table(named))
        widgets.caption(f"{listed([run.run_id for _, run in named])}; they are listed in Fine-tune as well.")
        if live and all(run is None or run.status.is_finished() for run in runs):
            st.rerun()

    show()


def listed(run_ids: Sequence[str]) -> str:
    """``Runs a, b, c``, or the first and the last of many."""
    if len(run_ids) <= 4:
        return "Runs " + ", ".join(run_ids)
    return f"{len(run_ids)} runs, {run_ids[0]} to {run_ids[-1]}"


def curve(
    store: Store,
    named: Sequence[tuple[str, Run]],
    field: str,
    colours: Sequence[str] = COLOURS,
    level: tuple[str, float] | None = None,
) -> alt.LayerChart:
    """Altair, because it moves while training: one line per name, the mean of its runs, with dashes and labels."""
    names = {run.run_id: name for name, run in named}
    points = store.curves(list(names)).dropna(subset=[field])
    frame = pd.DataFrame(
        {"name": points["run_id"].map(names), "step": points["step"], "value": points[field].astype(float)}
        if len(points)
        else {"name": [], "step": [], "value": []}
    )
    frame = frame.groupby(["name", "step"], as_index=False, sort=False)["value"].mean()
    frame = pd.concat([group.iloc[thin(len(group))] for _, group in frame.groupby("name", sort=False)] or [frame])
    methods = {name: run.spec.method for name, run in named}
    order = list(methods)
    inks = [
        charts.method_colour("lora") if method == "lora" else colours[index % len(colours)]
        for index, method in enumerate(methods.values())
    ]
    steps = max(run.spec.steps for _, run in named)
    y, is_share = words_of(field), measure_of(field) == "accuracy"
    scale = alt.Scale(domain=[0, 1]) if is_share else alt.Scale(zero=True)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "step:Q",
            title="training step",
            scale=alt.Scale(domain=[0, steps * 1.25], nice=False),
            axis=alt.Axis(values=[round(steps * part / 5) for part in range(6)]),
        ),
        y=alt.Y("value:Q", title=y, scale=scale),
        color=alt.Color("name:N", scale=alt.Scale(domain=order, range=inks), legend=None),
    )
    lines = base.mark_line(strokeWidth=2.2, point=is_share).encode(
        strokeDash=alt.StrokeDash(
            "name:N",
            scale=alt.Scale(domain=order, range=[DASHES[i % len(DASHES)] for i in range(len(order))]),
            legend=None,
        ),
        tooltip=["name:N", "step:Q", alt.Tooltip("value:Q", title=y, format=".3f")],
    )
    ends = frame.sort_values("step").groupby("name").tail(1).sort_values("value")
    span = 1.0 if is_share else float(frame["value"].max() or 1.0) if len(frame) else 1.0
    ends = ends.assign(value=spread(ends["value"].tolist(), 0.065 * span))
    labels = (
        alt.Chart(ends)
        .mark_text(align="left", dx=6, fontWeight="bold")
        .encode(
            x="step:Q",
            y="value:Q",
            text="name:N",
            color=alt.Color("name:N", scale=alt.Scale(domain=order, range=inks), legend=None),
        )
    )
    layers = [lines, labels] if level is None else [*_level(*level), lines, labels]
    return charts.altair(alt.layer(*layers), f"{y.capitalize()}, step by step", height=300)


def _level(name: str, height: float) -> list[alt.Chart]:
    """A thin line across the figure, named at its right end."""
    at = alt.Chart(pd.DataFrame({"value": [height], "name": [name]})).encode(y="value:Q")
    line = at.mark_rule(strokeDash=[2, 3], color=theme.LORA)
    label = at.mark_text(align="right", baseline="bottom", dx=-4, dy=-3, color=theme.LORA).encode(
        x=alt.value("width"), text="name:N"
    )
    return [line, label]


def spread(heights: Sequence[float], least: float) -> list[float]:
    """Ascending heights moved up so that neighbours are at least ``least`` apart."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    return moved


def state_of(run: Run | None) -> str:
    """The state of a run in a few words: its test accuracy once it is kept."""
    if run is None:
        return "not run yet"
    if run.status == RunState.FAILED:
        return f"failed: {run.error}"
    if TEST_ACCURACY in run.metrics:
        return f"{run.metrics[TEST_ACCURACY]:.3f}"
    if run.status.is_live():
        return f"step {run.step} of {run.spec.steps}" if run.step else (run.phase or run.status)
    return run.status


def table_html(named: Sequence[tuple[str, Run]]) -> str:
    """One row per run: name, configuration, scaling, state or test accuracy."""
    rows = "".join(
        f"<tr><td>{name}</td><td>{widgets.method_chip_html(run.spec)}</td><td>{run.spec.scaling:.3g}</td>"
        f"<td>{'–' if run.num_params is None else f'{run.num_params:,}'}</td><td>{state_of(run)}</td></tr>"
        for name, run in named
    )
    return (
        '<div class="learn-question"><table><thead><tr><th></th><th>setting</th><th>scaling</th><th>parameters</th>'
        f"<th>test accuracy</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
