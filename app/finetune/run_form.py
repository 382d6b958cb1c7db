"""The order form of the Fine-tune room: what to train, on what, how long and how often."""

from __future__ import annotations

import math

import streamlit as st

from app import comparison_list, form_memory, state, widgets
from app.design.budget_form import ALL, indivisible, modules
from app.finetune import run_request
from app.finetune.run_request import RunRequest
from app.owndata import picker
from app.pickers import model_picker, task_picker
from cdka.runs.spec import AUTO
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
HIGHEST_USUAL_RATE = 0.1
_OTHERS = {"seeds": 1, "baselines": list(state.default("tune-baselines"))}
_FIELDS = tuple(f"tune-{name}" for name in (*KNOBS, *_OTHERS))
_KEPT = "tune-kept"
"""The values of the fields when they were last drawn: another room's page forgets what is bound to the address."""
REGIME_HELP = (
    "Recipe: a tuned rate and enough steps; on digits good configurations end close together. Early steps: few steps "
    "at a modest rate, where alignment (r2 over r1) should decide. High rate: which configurations stay stable?"
)
BASELINES = {"LoRA, equal cost": "lora", "LoKr, equal cost": "lokr", "full fine-tuning": "full"}


def request_form() -> RunRequest | None:
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
    options = picker.data_form(task.name) if of_own else {}
    targets = modules(shapes)
    rule = indivisible()
    entries = comparison_list.widget("Train these")
    patterned, pattern = run_request.carried_pattern(model)
    against = st.pills(
        "against",
        list(BASELINES),  # the address holds what is shown
        selection_mode="multi",
        **state.bound("tune-baselines"),
        wrap=True,
        help="One for each price among the configurations: a LoRA of the same number of parameters, or the nearest.",
    )
    baselines = tuple(BASELINES[name] for name in against or ())
    if model in REGIMES:
        st.segmented_control(
            "Regime",
            list(REGIMES[model]),
            **form_memory.kept("tune-regime"),
            help=REGIME_HELP,
            on_change=_set_regime,
            args=(model,),
        )
    left, right = st.columns(2, gap="small")
    with left:
        steps = st.number_input("Steps", 1, 1_000_000, step=20, **state.bound("tune-steps"))
        alpha = st.number_input(
            "alpha",
            0.001,
            1e6,
            step=1.0,
            format="%g",
            **state.bound("tune-alpha"),
            help="scaling = alpha / sqrt(r r2) for CDKA, alpha / sqrt(rank) for LoRA",
        )
    with right:
        rate = _rate(
            st.text_input(
                "Learning rate",
                **state.bound("tune-lr"),
                help="peak; for example 3e-3, or auto: the best that a study measured per method, else the recipe's",
            )
        )
        seeds = st.number_input(
            "Seeds",
            1,
            100,
            **state.bound("tune-seeds"),
            help="Each seed fixes data order and initialisation. Three or more give an interval.",
        )
    of_text = not task.kind.startswith("image")
    if of_text:
        longest = st.number_input(
            "Longest sequence (tokens)",
            0,
            1_000_000,
            step=64,
            **state.bound("tune-max_length"),
            help="0: what 99 of 100 training examples fit in. Longer ones are left out or truncated; the run reports "
            "how many.",
        )
    sizes = sorted({4, 8, 16, 32, 64, 128, 256, st.session_state.get("tune-batch_size", 64)})
    batch = st.select_slider("Batch size", sizes, **state.bound("tune-batch_size"))
    st.session_state[_KEPT] = {name: st.session_state[name] for name in _FIELDS if name in st.session_state}
    more = run_request.carried(model, task.name)
    first_seed = more.pop("seed", 0)
    if rate is None:
        return None
    settings = (("steps", int(steps)), ("lr", rate), ("alpha", float(alpha)), ("batch_size", int(batch)))
    if targets != ALL:
        settings = (*settings, ("target_modules", targets))
    if rule != "error":
        settings = (*settings, ("indivisible", rule))
    if of_own and options is None:
        return None
    settings += (("max_length", int(longest) or "auto"),) if of_text else ()
    settings += (("task_options", options),) if options else ()
    settings += tuple(more.items())
    return RunRequest(model, task.name, tuple(entries), baselines, int(seeds), settings, first_seed, patterned, pattern)


def _fill_recipe(task: TaskInfo) -> None:
    """The task's recipe fills the knobs when the task is chosen; what the reader sets afterwards stays, and comes back
    on the next visit of the room and, by the address, after a reload."""
    arrived, last = "tune-filled" not in st.session_state, st.session_state.get("tune-filled")
    st.session_state["tune-filled"] = task.name
    kept = st.session_state.get(_KEPT, {})
    for name in _FIELDS:
        knob = name.removeprefix("tune-")
        if name in st.query_params and (arrived or name not in st.session_state):
            continue  # the address says it
        if knob in KNOBS and last != task.name:
            value = task.recipe.get(knob, KNOBS[knob])
            _set_knob(knob, 0 if value == "auto" else value)
        elif name not in st.session_state:
            st.session_state[name] = kept.get(name, _OTHERS.get(knob))


def _set_regime(model: str) -> None:
    for knob, value in REGIMES[model].get(st.session_state["tune-regime"], {}).items():
        _set_knob(knob, value)


def _set_knob(knob: str, value: float) -> None:
    st.session_state[f"tune-{knob}"] = f"{value:g}" if knob == "lr" else value


def _rate(text: str) -> float | str | None:
    """The learning rate that ``text`` stands for, or ``auto``; None, with the refusal at the field, where for none."""
    if text.strip().casefold() == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        widgets.error(f"the learning rate must be a positive number, or auto: got {text!r}. Example: 3e-3.")
        return None
    if value > HIGHEST_USUAL_RATE:
        widgets.remark(f"{value:g} is far above what trains adapters, 1e-4 to 3e-2: expect it to blow up.")
    return value


def example() -> RunRequest:
    """The offer of an empty room: the default comparison on the embedded model with its recipe."""
    return RunRequest(state.default("on"), state.default("task"), tuple(state.default(comparison_list.KEY)), ("lora",))
