"""Ask the finished runs on screen: a prompt, a sentence or a drawn digit, answered side by side with their base.

Torch stays in a child process (``cdka.engine.tryout``), which streams the answers; this page only reads them.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from app import data, widgets
from cdka import formatting
from cdka.engine.tryout import BASE, ask
from cdka.runs.run import Run
from cdka.runs.store import Store
from cdka.tasks.catalogue import find_task

MAX_ASKED = 3
"""Adapters that answer beside their base: more columns cannot be read."""
MAX_SHOWN_ANSWERS = 40
POLL_S = 0.4
EXAMPLES = {"math-chain": "7*8-6=", "math": "12+7="}
"""A prompt to start with, by task."""
_ASKED = "try-asked"

_HERE = Path(__file__).parent
_pad = st.components.v2.component(
    "cdka_digit_pad",
    html='<div class="digit"></div>',
    css="""
.digit { width: 176px; aspect-ratio: 1; border: 1px solid var(--st-border-color); border-radius: 6px; overflow: hidden;
  touch-action: none; cursor: crosshair; }
.digit .row { display: flex; height: 12.5%; }
.digit [role=gridcell] { flex: 1;
  background: color-mix(in srgb, var(--st-text-color) calc(var(--ink, 0) * 100%), transparent); }
.digit [role=gridcell]:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
""",
    js=(_HERE / "digit.js").read_text(encoding="utf-8"),
)


def show(store: Store, runs: Sequence[Run]) -> None:
    """The panel, where a run among ``runs`` has kept an adapter."""
    able = {run.run_id: run for run in runs if run.status.is_kept() and run.adapter_dir.is_dir()}
    if not able:
        return
    with st.expander("Try it: ask the finished runs", key="try", on_change="rerun") as panel:
        if not panel.open:
            return
        with widgets.errors_shown():
            _asking(store, able)


def _asking(store: Store, able: dict[str, Run]) -> None:
    chosen = st.multiselect(
        "Beside the base",
        list(able),
        default=_first_of_each_method(list(able.values())),
        format_func=lambda run_id: _title(able[run_id]),
        max_selections=MAX_ASKED,
        key="try-runs",
    )
    picked = [able[run_id] for run_id in chosen]
    if not picked:
        return widgets.remark("Choose a run to ask.")
    first = picked[0]
    if any((run.spec.model, run.spec.task) != (first.spec.model, first.spec.task) for run in picked):
        return widgets.remark("Choose runs of one model and task: one question is for all of them.")
    kind = find_task(first.spec.task).kind
    prompt, pixels = _question(first, kind)
    asked = {"runs": tuple(chosen), "prompt": prompt, "pixels": pixels}
    ready = bool(prompt or pixels)
    st.button("Ask", type="primary", key="try-ask", disabled=not ready, on_click=_ask, args=(store, asked))
    now = st.session_state.get(_ASKED)
    if now is not None and now["asked"]["runs"] == asked["runs"]:
        stream: data.Stream = now["stream"]
        st.fragment(_answers, run_every=None if stream.done else POLL_S, key="try-answers")(picked)
    _kept_answers(picked)
    return None


def _question(run: Run, kind: str) -> tuple[str, list[list[float]] | None]:
    """(the typed prompt, the drawn picture): one of them, whichever the model reads."""
    if kind == "image-classification":
        if not run.spec.task.startswith("digits"):
            return st.text_input("Path of a picture", key="try-path"), None
        widgets.remark("Draw a digit, upright or upside down. These runs learned the flipped ones.")
        drawn = _pad(
            data={"clear": st.session_state.get("try-clear", 0)},
            key="try-pad",
            default={"pixels": None},
            on_pixels_change=lambda: None,
        )
        st.button("Clear", key="try-clear-pad", type="tertiary", on_click=_clear)
        pixels = drawn.pixels if drawn.pixels and any(map(any, drawn.pixels)) else None
        return "", pixels
    words = "A sentence to classify" if kind == "text-classification" else "Prompt"
    return st.text_area(words, EXAMPLES.get(run.spec.task, ""), key=f"try-prompt-{run.spec.task}", height=90), None


def _clear() -> None:
    st.session_state["try-clear"] = st.session_state.get("try-clear", 0) + 1
    st.session_state.pop(_ASKED, None)


def _ask(store: Store, asked: dict) -> None:
    """Ask once more; from a callback. What was asked before is given up."""
    before = st.session_state.get(_ASKED)
    if before is not None:
        before["stream"].stop()
    first, *others = asked["runs"]
    with widgets.errors_shown():
        work = ask(first, asked["prompt"], against=(BASE, *others), store=store, pixels=asked["pixels"])
        st.session_state[_ASKED] = {"asked": asked, "stream": data.Stream(work)}


def _answers(picked: Sequence[Run]) -> None:
    """The answers so far, side by side: the base first."""
    now = st.session_state.get(_ASKED)
    if now is None:
        return
    stream: data.Stream = now["stream"]
    columns = st.columns(1 + len(picked), gap="small")
    names = {BASE: "base"} | {_who(run): _title(run) for run in picked}
    for column, (who, title) in zip(columns, names.items(), strict=True):
        part = stream.parts.get(who)
        text = html.escape(part["text"].strip()) if part else "..." if not stream.done else "no answer"
        seconds = "" if part is None else f" {formatting.duration(part['seconds'])}"
        with column:
            widgets.html_block(
                f'<div class="cdka-figure-title">{html.escape(title)}<span class="cdka-quiet">{seconds}</span></div>'
                f'<div class="cdka-tokens" aria-live="polite">{text or "(nothing)"}</div>'
            )
    if stream.error:
        widgets.error(stream.error)
    if stream.done and not now.get("settled"):
        now["settled"] = True
        st.rerun()  # the whole page, which stops the clock
    elif not stream.done and not stream.parts:
        widgets.remark("Loading the model ...")


def _kept_answers(picked: Sequence[Run]) -> None:
    """The test answers that the first run of these has generated."""
    run = picked[0]
    if not run.answers_path.is_file():
        return
    lines = run.answers_path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:MAX_SHOWN_ANSWERS]]
    widgets.html_block(
        f'<div class="cdka-figure-title">Its {formatting.plural(len(lines), "test answer")}: {html.escape(_title(run))}'
        "</div>"
    )
    st.dataframe(
        {
            "answer": [row["answer"] for row in rows],
            "read as": ["" if row["predicted"] is None else str(row["predicted"]) for row in rows],
            "right answer": [str(row["label"]) for row in rows],
            "prompt": [row["prompt"] for row in rows],
        },
        hide_index=True,
        height=min(38 * (len(rows) + 1), 260),
        key="try-kept",
    )


def _who(run: Run) -> str:
    """The name under which ``ask`` streams a run's answer."""
    return f"{run.spec.label} ({run.run_id})"


def _title(run: Run) -> str:
    return f"{run.spec.label}, seed {run.spec.seed}"


def _first_of_each_method(runs: Sequence[Run]) -> list[str]:
    """The first CDKA run and the first of another method."""
    first: dict[bool, str] = {}
    for run in runs:
        first.setdefault(run.spec.method == "cdka", run.run_id)
    return [first[key] for key in (True, False) if key in first]
