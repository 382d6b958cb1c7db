"""The clusters that runs train on: nodes, what runs where, and what is wrong. Nothing where all is on this machine."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Sequence

import streamlit as st

from app import form_memory, widgets
from cdka import formatting
from cdka.engine.clusters import FRESH_S, clusters, known_state
from cdka.engine.contract import engine_of
from cdka.errors import CdkaError
from cdka.runs.run import Run
from cdka.runs.spec import ENGINE_VARIABLE, LOCAL, check_engine
from cdka.runs.store import Store

OTHER = "another cluster"


def engines_of(store: Store, runs: Sequence[Run]) -> list[str]:
    """The clusters that the Studio was opened for, or that these runs are on."""
    named = [os.environ.get(ENGINE_VARIABLE, LOCAL), *(run.spec.engine for run in runs if not run.status.is_finished())]
    return [engine for engine in dict.fromkeys(named) if engine != LOCAL]


def show(store: Store, runs: Sequence[Run]) -> None:
    """Draws each cluster: a line a node, with the runs on it."""
    for number, engine in enumerate(engines_of(store, runs)):
        state = known_state(store.home, engine)
        with st.container(border=True, key=f"tune-cluster-{number}"):
            if state is not None and state["error"]:
                widgets.error(state["error"])
            places = store.places([run.run_id for run in runs if run.status.is_live()])
            widgets.html_block(nodes_html(engine, state, places))


def nodes_html(engine: str, state: dict | None, places: dict[str, tuple[str, str | None]]) -> str:
    """The nodes of a cluster; ``places`` maps runs to their slot and the id of their node."""
    if state is None:
        return f'<div class="cdka-quiet">{html.escape(engine)}: not heard of yet.</div>'
    age = time.time() - state["at"]
    old = "" if age < FRESH_S else f", as heard {formatting.duration(age)} ago"
    count = formatting.plural(len(state["nodes"]), "node")
    lines = [f'<div class="cdka-quiet"><b>{html.escape(engine)}</b>: {count}{old}</div>']
    for node in state["nodes"]:
        own = [run for run, (slot, place) in places.items() if place == node["node"] and engine_of(slot) == engine]
        has = f"{formatting.plural(node['gpus'], 'GPU')}, " if node["gpus"] else ""
        has += formatting.plural(node["cpus"], "CPU core")
        head = " (head)" if node["head"] else ""
        problem = f' <span class="cdka-error">{html.escape(node["problem"])}</span>' if node.get("problem") else ""
        runs = ", ".join(own) or "idle"
        name = f"{html.escape(node['name'])}/{node['node'][:6]}{head}"
        lines.append(f'<div class="cdka-quiet">{name} · {html.escape(node["address"])} · {has} · {runs}{problem}</div>')
    return "".join(lines)


def ask_engine(store: Store) -> str | None:
    """The engine that the reader chooses for a sweep; None for the usual one, where there is nothing to choose from."""
    usual = os.environ.get(ENGINE_VARIABLE) or LOCAL
    known = list(dict.fromkeys([usual, LOCAL, *clusters(store.home)]))
    if len(known) == 1:
        return None
    chosen = st.selectbox(
        "Engine",
        [*known, OTHER],
        format_func=lambda name: "this machine" if name == LOCAL else name,
        **form_memory.kept("sweep-engine"),
        help="Where the runs train: on this machine, or on a Ray cluster. The numbers are the same.",
    )
    if chosen != OTHER:
        return None if chosen in (usual, None) else chosen
    typed = st.text_input(
        "Address", **form_memory.kept("sweep-engine-address"), placeholder="ray://10.0.0.1:10001"
    ).strip()
    with widgets.errors_shown():
        if not typed:
            raise CdkaError("a cluster is named by its address: got none. Example: ray://10.0.0.1:10001")
        check_engine(typed)
        return typed
    return None
