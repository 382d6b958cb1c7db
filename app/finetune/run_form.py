"""The order form of the Fine-tune room: what to train, on what, how long and how often."""

from __future__ import annotations

import streamlit as st

from app import comparison_list, state, widgets
from app.design.budget_form import ALL, modules
from app.finetune import run_request
from app.finetune.run_request import RunRequest
from app.owndata import picker
from app.pickers import model_picker, task_picker
from cdka.errors import CdkaError
from cdka.tasks.catalogue import TaskInfo

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
    "at a modest rate, where alignment (r2 over r1) should decide. High rate: which configurations stay stable?"
)
BASELINES = {"lora": "LoRA, equal cost", "lokr": "LoKr, equal cost", "full": "full fine-tuning"}


def ask() -> RunRequest | None:
    """Draws the form and returns what it asks for, None while it is not complete. Raises CdkaError for what cannot be
    meant."""
    shapes = model_picker("on", help="Embedded models train here at once; others need their weights on this machine.")
    model = shapes.name
    task = task_picker("task", shapes)
    sizes = ", ".join(f"{size:,} {split}" for split, size in task.examples.items())
    if not task.is_own_data:
        widgets.remark(f"{task.description} Examples: {sizes}." if sizes else task.description)
    _fill_recipe(task)
    of_own = task.is_own_data
    options = picker.ask(task.name) if of_own else {}
    targets = modules(shapes)
    entries = comparison_list.widget("Train these")
    patterned, pattern = run_request.carried_pattern(model)
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
            help="0: what 99 of 100 training examples fit in. Longer ones are left out or truncated; the run reports "
            "how many.",
        )
    sizes = sorted({4, 8, 16, 32, 64, 128, 256, st.session_state.get("tune-batch_size", 64)})
    batch = st.select_slider("Batch size", sizes, key="tune-batch_size", persist_state="session")
    more = run_request.carried(model, task.name)
    first_seed = more.pop("seed", 0)
    settings = (("steps", int(steps)), ("lr", _number(rate)), ("alpha", float(alpha)), ("batch_size", int(batch)))
    if targets != ALL:
        settings = (*settings, ("target_modules", targets))
    if of_own and options is None:
        return None
    settings += (("max_length", int(longest) or "auto"),) if of_text else ()
    settings += (("task_options", options),) if options else ()
    settings += tuple(more.items())
    return RunRequest(
        model, task.name, tuple(entries), tuple(baselines or ()), int(seeds), settings, first_seed, patterned, pattern
    )


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
        raise CdkaError(f"the learning rate must be a positive number: got {text!r}. Example: 3e-3.") from None


def example() -> RunRequest:
    """The offer of an empty room: the default comparison on the embedded model with its recipe."""
    return RunRequest(state.default("on"), state.default("task"), tuple(state.default(comparison_list.KEY)), ("lora",))
