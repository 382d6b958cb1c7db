"""The order form of the Fine-tune room: what to train, on what, how long and how often."""

from __future__ import annotations

import html

import streamlit as st

from app import comparison_list, state, widgets
from app.design.budget_form import ALL, modules
from app.finetune import extras
from app.finetune.run_request import Order
from app.owndata import picker
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.tasks.catalogue import TASKS, TaskInfo, find_task

KNOBS = {"steps": 200, "lr": 1e-3, "alpha": 64.0, "batch_size": 64, "max_length": 512}
"""The knobs on the form and what they are where a task's recipe is silent."""

REGIMES = {
    "digits-vit": {
        "Recipe": {"steps": 200, "lr": 3e-3, "alpha": 16.0},
        "Early steps": {"steps": 120, "lr": 2e-3, "alpha": 8.0},
        "High rate": {"steps": 200, "lr": 1e-2, "alpha": 16.0},
    },
    "math-lm": {
        "Recipe": {"steps": 200, "lr": 3e-3, "alpha": 16.0},
        "Early steps": {"steps": 100, "lr": 3e-3, "alpha": 16.0},
        "High rate": {"steps": 200, "lr": 2e-2, "alpha": 16.0},
    },
}
"""Settings under which the embedded model answers different questions; see REGIME_HELP."""
REGIME_HELP = (
    "Recipe: a tuned rate and enough steps; on digits good configurations end close together. Early steps: few steps "
    "at a modest rate, where alignment (r2 over r1) should decide. High rate: who tolerates it?"
)
BASELINES = {"lora": "LoRA, equal cost", "lokr": "LoKr, equal cost", "full": "full fine-tuning"}


def ask() -> Order | None:
    """Draws the form and returns what it asks for, None while it is not complete. Raises CdkaError for what cannot be
    meant."""
    model = _model()
    task = _task(model)
    _fill_recipe(task)
    of_own = task.name.startswith("local-")
    options = picker.ask(task.name) if of_own else {}
    targets = modules(find_model(model))
    entries = comparison_list.widget("Train these")
    baselines = st.pills(
        "against",
        list(BASELINES),
        selection_mode="multi",
        default=["lora"],
        format_func=BASELINES.get,
        key="tune-baselines",
        persist_state="session",
        wrap=True,
    )
    if model in REGIMES:
        st.segmented_control(
            "Regime", list(REGIMES[model]), key="tune-regime", help=REGIME_HELP, on_change=_set_regime, args=(model,)
        )
    left, right = st.columns(2, gap="small")
    with left:
        steps = st.number_input("Steps", 1, 1_000_000, key="tune-steps", step=20, persist_state="session")
        alpha = st.number_input(
            "alpha",
            0.001,
            1e6,
            key="tune-alpha",
            step=1.0,
            format="%g",
            persist_state="session",
            help="scaling = alpha / sqrt(r r2) for CDKA, alpha / sqrt(rank) for LoRA",
        )
    with right:
        rate = st.text_input("Learning rate", key="tune-lr", persist_state="session", help="peak; for example 3e-3")
        seeds = st.number_input(
            "Seeds",
            1,
            100,
            key="tune-seeds",
            persist_state="session",
            help="Each seed fixes data order and initialisation. Three or more give an interval.",
        )
    of_text = not task.kind.startswith("image")
    if of_text:
        longest = st.number_input(
            "Longest sequence (tokens)",
            0,
            1_000_000,
            key="tune-max_length",
            step=64,
            persist_state="session",
            help="0: what 99 of 100 training examples fit in. Longer ones are left out or cut, and it is told.",
        )
    sizes = sorted({4, 8, 16, 32, 64, 128, 256, st.session_state.get("tune-batch_size", 64)})
    batch = st.select_slider("Batch size", sizes, key="tune-batch_size", persist_state="session")
    more = extras.ask(model, task.name)
    first_seed = more.pop("seed", 0)
    settings = (("steps", int(steps)), ("lr", _number(rate)), ("alpha", float(alpha)), ("batch_size", int(batch)))
    if targets != ALL:
        settings = (*settings, ("target_modules", targets))
    if of_own and options is None:
        return None
    settings += (("max_length", int(longest) or "auto"),) if of_text else ()
    settings += (("task_options", options),) if options else ()
    settings += tuple(more.items())
    return Order(model, task.name, tuple(entries), tuple(baselines or ()), int(seeds), settings, first_seed)


def _model() -> str:
    names = [shapes.name for shapes in list_models()]
    chosen = st.selectbox(
        "Model",
        names,
        index=names.index(state.default("on")),
        accept_new_options=True,
        **state.bound("on"),
        help="Embedded models train here at once; others need their weights on this machine.",
    )
    return find_model(chosen or state.default("on")).name


def _task(model: str) -> TaskInfo:
    fitting = [task.name for task in TASKS.values() if _fits(model, task)]
    if not fitting:
        raise CdkaError(f"no task in the catalogue fits {model!r}. Choose another model, or see: cdka tasks")
    if st.session_state.get("task", fitting[0]) not in fitting:
        st.session_state["task"] = fitting[0]
    index = fitting.index(state.default("task")) if state.default("task") in fitting else 0
    name = st.selectbox("Task", fitting, index=index, **state.bound("task"))
    task = find_task(name)
    sizes = ", ".join(f"{size:,} {split}" for split, size in task.examples.items())
    told = f"{task.description} Examples: {sizes}." if sizes else task.description
    widgets.html_block(f'<div class="cdka-quiet">{html.escape(told)}</div>')
    return task


def _fits(model: str, task: TaskInfo) -> bool:
    """Whether the model can do the task: images to image models, and only a model that writes can be instructed."""
    kind = find_model(model).kind
    if task.models:
        return model in task.models
    if kind.startswith("image") or task.kind.startswith("image"):
        return kind.startswith("image") and task.kind.startswith("image")
    return kind != "text-classification" or task.kind == kind


def _fill_recipe(task: TaskInfo) -> None:
    """The task's recipe fills the knobs when the task is first chosen; what the reader sets afterwards stays."""
    if st.session_state.get("tune-filled") == task.name:
        return
    st.session_state["tune-filled"] = task.name
    for knob, fallback in KNOBS.items():
        value = task.recipe.get(knob, fallback)
        _set_knob(knob, 0 if value == "auto" else value)
    st.session_state.setdefault("tune-seeds", 1)


def _set_regime(model: str) -> None:
    for knob, value in REGIMES[model].get(st.session_state["tune-regime"], {}).items():
        _set_knob(knob, value)


def _set_knob(knob: str, value: float) -> None:
    st.session_state[f"tune-{knob}"] = f"{value:g}" if knob == "lr" else value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CdkaError(f"lr must be a positive number: got {text!r}. Example: 3e-3.") from None


def example() -> Order:
    """What an empty room offers: the default comparison on the embedded model with its recipe."""
    return Order(state.default("on"), state.default("task"), tuple(state.default(comparison_list.KEY)), ("lora",))
