"""The builder of a plan: its questions on the left, the arms in the middle, on the right what a click will start."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import data, form_memory, state, widgets
from app.finetune import cluster_panel
from app.owndata import picker
from app.owndata.preview import show_data
from app.sweeps import plan_document, plan_preview, sweep_card
from app.sweeps.plan_document import grid_text
from cdka import formatting
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.models.targets import select
from cdka.solver import obstacles
from cdka.solver.budget import Budget
from cdka.solver.feasible import common_values
from cdka.sweep.match import EACH, NEAR, iso_options
from cdka.sweep.plan import MANY_ARMS_SEEDS
from cdka.sweep.planfile import EXAMPLE
from cdka.tasks.catalogue import TaskInfo

GRID, EQUAL, FILE = "Grid", "Equal budget", "Plan file"
WAYS = (GRID, EQUAL, FILE)
BASELINES = {
    "lora": "LoRA",
    "lora-plain": "LoRA, alpha / r",
    "lokr": "LoKr",
    "dora": "DoRA",
    "full": "full fine-tuning",
}
KNOBS = {"steps": 200, "lr": 1e-3, "alpha": 64.0, "batch_size": 64}
"""The knobs and what they are where a task's recipe is silent."""
_LAST_FILE, _FILE_NAME = "sweep-file-read", "sweep-file-name"
LARGEST = 128
"""Offered values of r1 and r2 end here; larger ones can be typed."""


def questions(way: str, shapes: ModelShapes, task: TaskInfo) -> dict[str, Any] | None:
    """Draws the questions and returns the plan's arguments; None where one has no answer that can be meant, which is
    told at its field."""
    _fill_recipe(task)
    layers = select(shapes, "all-linear")
    if way == EQUAL:
        budget, count = _equal()
        axes: dict[str, list[Any]] = {}
    else:
        axes, budget = _axes(layers), ""
    rates, fair = _rates()
    baselines = st.pills(
        "Baselines",
        list(BASELINES),
        selection_mode="multi",
        default=["lora", "lokr"] if way == EQUAL else ["lora"],
        format_func=BASELINES.get,
        **form_memory.kept(f"sweep-baselines-{way.lower().replace(' ', '-')}"),
        wrap=True,
        help="LoRA is scaled like rsLoRA, alpha / sqrt(rank), unless marked alpha / r.",
    )
    if way == GRID and baselines:
        budget = st.text_input(
            "Match baselines to",
            **form_memory.kept("sweep-budget"),
            placeholder="the largest arm; or: each",
            help="The nearest a baseline's rank can come to: 50000, 0.5%, lora:8, 4MB. each: one baseline for every "
            "price among the arms, so that none is compared with a richer one.",
        ).strip()
        _check_budget(budget)
    alphas, seeds, steps, batch = _numbers()
    rounds = 0 if fair else _halving()
    meant = all(axes.values()) and bool(rates) and bool(alphas) and _is_budget(budget)
    varied = {"lr": [] if fair else rates, "alpha": alphas}
    many = {name: values for name, values in varied.items() if len(values) > 1}
    usual = f"equal budget {budget}" if way == EQUAL else grid_text(axes | many) if meant else "named after its grid"
    typed = st.text_input("Name", **form_memory.kept("sweep-name"), placeholder=f"{usual} on {task.name}")
    if not meant:
        return None
    engine = cluster_panel.ask_engine(data.store())
    settings: dict[str, Any] = {"steps": steps, "batch_size": batch} | ({"engine": engine} if engine else {})
    settings |= {} if "lr" in many else {"lr": rates[0]}
    settings |= {} if "alpha" in many else {"alpha": alphas[0]}
    arguments: dict[str, Any] = {"name": typed.strip() or f"{usual} on {task.name}"}
    arguments |= {"model": shapes.name, "task": task.name, "seeds": seeds}
    arguments |= {"baselines": list(baselines)} if baselines else {}
    arguments |= {"budget": budget} if budget else {}
    arguments |= {"tune_lr": rates} if fair and len(rates) > 1 else {}
    arguments |= {"halving": rounds} if rounds else {}
    arguments["settings"] = settings
    if way == EQUAL:
        return arguments | ({"arms": _matched(shapes, layers, budget, count, many)} if many else {"options": count})
    return arguments | {"grid": axes | many}


def _is_budget(text: str) -> bool:
    try:
        return text in ("", EACH) or Budget.parse(text) is not None
    except CdkaError:
        return False


def _check_budget(text: str) -> None:
    """Tell, at the field just drawn, what is wrong with a budget."""
    with widgets.errors_shown():
        if text not in ("", EACH):
            Budget.parse(text)


def _equal() -> tuple[str, int]:
    left, right = st.columns(2, gap="small")
    budget = left.text_input(
        "Budget",
        value=state.default("plan_budget"),
        **state.bound("plan_budget"),
        help="24576, 2.5M, 0.5% of the model, lora:8 (what LoRA rank 8 costs here), 4MB of file.",
    )
    st.session_state.setdefault("sweep-count", 4)
    count = right.number_input(
        "CDKA options",
        1,
        32,
        **form_memory.kept("sweep-count"),
        help="From the highest predicted alignment to the lowest, all using at least "
        f"{formatting.percent(NEAR)} of the budget.",
    )
    asked = budget.strip() or state.default("plan_budget")
    with left:
        _check_budget(asked)
    return asked, int(count)


def _matched(
    shapes: ModelShapes, layers: Sequence[LinearShape], budget: str, count: int, many: dict[str, list[Any]]
) -> list[dict[str, Any]]:
    """The CDKA arms of an equal-budget plan, at each value of what varies beside."""
    limit = Budget.parse(budget).params(shapes.base_params, layers)
    best = iso_options(shapes, "all-linear", limit, count)
    cells = [dict(zip(many, values, strict=True)) for values in itertools.product(*many.values())]
    return [{"components": list(option.components.as_tuple()), **cell} for option in best for cell in cells]


def _axes(layers: Sequence[LinearShape]) -> dict[str, list[int]]:
    r1_values, r2_values = ([v for v in values if v <= LARGEST] for values in common_values(layers))
    return {
        "r1": _axis("r1", "divides every out_features", r1_values, layers),
        "r2": _axis("r2", "divides every in_features", r2_values, layers),
        "r": _axis("r", "number of components", [1, 2, 3, 4, 6, 8, 16], layers),
    }


def _axis(name: str, meaning: str, values: Sequence[int], layers: Sequence[LinearShape]) -> list[int]:
    """The values of one axis, in rising order; none where the field is empty or holds what is no positive integer,
    which is told there, as are values that divide no layer's dimension, with their neighbours that do."""
    fitting = ", ".join(str(value) for value in values)
    chosen = _typed(
        st.text_input(
            name,
            value=state.default(f"axis_{name}"),
            **state.bound(f"axis_{name}"),
            help=f"{meaning}: {fitting}. Values with commas between; 1 alone leaves it as it is in LoRA.",
        )
    )
    odd = [text for text in chosen if not (text.isdecimal() and int(text) > 0)]
    if not chosen or odd:
        rule = f"{name} must be a positive integer: got {odd[0]!r}" if odd else f"{name} needs a value: got none"
        widgets.error(f"{rule}. Examples: 1 or {', '.join(fitting.split(', ')[:3])}.")
        return []
    for value in map(int, chosen):
        for obstacle in obstacles(layers, Components(**{"r1": 1, "r2": 1, "r": 1, name: value})):
            near = " or ".join(map(str, obstacle.nearest))
            note = f"{name} = {value} does not divide {obstacle.axis}: left out. Nearest that fit: {near}."
            widgets.html_block(f'<div class="cdka-quiet" title="{html.escape(str(obstacle), quote=True)}">{note}</div>')
    return sorted(map(int, chosen))


def _rates() -> tuple[list[float], bool]:
    rates = _floats("sweep-lr", "Learning rates", "learning rate", ["1e-3", "3e-3", "1e-2"], "Peak learning rate.")
    if len(rates) == 1:
        return rates, False
    fair = st.toggle(
        "Fair search",
        value=True,
        **form_memory.kept("sweep-fair"),
        help="On: every arm and baseline trains at each rate, and the best on validation data counts. "
        "Off: each rate is an arm of its own, and baselines keep the recipe's.",
    )
    return rates, fair


def _numbers() -> tuple[list[float], int, int, int]:
    left, right = st.columns(2, gap="small")
    with left:
        seeds = st.number_input(
            "Seeds",
            1,
            1000,
            **form_memory.kept("sweep-seeds"),
            help="Each fixes data order and initialisation. Three resolve almost nothing between more than three arms.",
        )
        alphas = _floats("sweep-alpha", "alpha", "alpha", ["8", "16", "32", "64"], "scaling = alpha / sqrt(r r2).")
    with right:
        steps = st.number_input("Steps", 1, 1_000_000, **form_memory.kept("sweep-steps"), step=20)
        batch = st.select_slider(
            "Batch size", [1, 2, 4, 8, 16, 32, 64, 128, 256], **form_memory.kept("sweep-batch_size")
        )
    return alphas, int(seeds), int(steps), int(batch)


def _halving() -> int:
    return int(
        st.number_input(
            "Halvings",
            0,
            4,
            **form_memory.kept("sweep-halving"),
            help="Stops the weaker half of the arms so many times, at 1/2, 1/4, ... of the steps, by the mean "
            "validation loss over all seeds. Compare keeps the lengths apart. 0: every arm is trained to its end.",
        )
    )


def _floats(key: str, label: str, name: str, offered: list[str], hint: str) -> list[float]:
    """The values of a field, in rising order; none where one cannot be meant, which is told at the field."""
    texts = _typed(
        st.text_input(label, **form_memory.kept(key), help=f"{hint} Several with commas: {', '.join(offered)}.")
    )
    with widgets.errors_shown():
        if not texts:
            raise CdkaError(f"it takes one {name} at least: got none. Example: {offered[0]}.")
        return sorted({_number(name, text, offered[0]) for text in texts})
    return []


def _typed(text: str) -> list[str]:
    """The values of a field, with commas, semicolons or spaces between them."""
    return list(dict.fromkeys(re.split(r"[,;\s]+", text.strip(" ,;\t")))) if text.strip(" ,;\t") else []


def _number(name: str, text: str, example: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise CdkaError(f"the {name} must be a positive number: got {text!r}. Example: {example}.")
    return value


def _fill_recipe(task: TaskInfo) -> None:
    """The task's recipe fills the knobs when the task is first chosen; what the reader sets afterwards stays."""
    form_memory.keep("sweep-filled")
    if st.session_state.get("sweep-filled") == task.name:
        return
    st.session_state["sweep-filled"] = task.name
    st.session_state.setdefault("sweep-seeds", MANY_ARMS_SEEDS)
    for knob, usual in KNOBS.items():
        value = task.recipe.get(knob, usual)
        st.session_state[f"sweep-{knob}"] = f"{value:g}" if knob in ("lr", "alpha") else value


def page(shapes: ModelShapes, task: TaskInfo) -> None:
    """Draws the builder for a model and a task."""
    with st.container(key="sweep-body"):
        ask, see, sight = st.columns([1.25, 2.35, 1.2], gap="medium")
    arguments = planned = None
    with ask, widgets.errors_shown():
        way = (
            st.segmented_control(
                "Arms from",
                WAYS,
                default=state.default("arms"),
                required=True,
                label_visibility="collapsed",
                **state.bound("arms"),
            )
            or GRID
        )
        arguments = _from_file() if way == FILE else _from_form(way, shapes, task)
    with sight, st.container(key="sweep-preview", border=True), widgets.errors_shown():
        planned = plan_preview.show(arguments)
    with see, widgets.errors_shown():
        if (last := st.session_state.get(plan_preview.LAST)) is not None:
            sweep_card.strip(last)
        own = arguments and arguments.get("settings", {}).get("task_options")
        if own and way != FILE:
            show_data(shapes.name, task.name, own, arguments["settings"].get("max_length"))
        if planned is not None:
            plan_preview.arms(planned)
        else:
            widgets.html_block('<div class="cdka-quiet">The arms appear here once the plan can be read.</div>')


def _from_form(way: str, shapes: ModelShapes, task: TaskInfo) -> dict[str, Any] | None:
    """The arguments of the form; with data of one's own, their options are among the settings. None without data."""
    if not task.is_own_data:
        return questions(way, shapes, task)
    options = picker.data_form(task.name)
    arguments = questions(way, shapes, task)
    if options is None or arguments is None:
        return None
    return arguments | {"settings": {**arguments["settings"], "task_options": options}}


def _from_file() -> dict[str, Any] | None:
    """The arguments of an uploaded or pasted plan file; None while there is neither.

    An upload fills the field for pasting, where it can be changed and stays when the upload is forgotten.
    """
    st.session_state.setdefault("sweep-pasted", EXAMPLE)
    form_memory.keep(_FILE_NAME)
    file = st.file_uploader("A plan file", type=["toml", "txt"], key="sweep-file", max_upload_size=1)
    if file is not None and st.session_state.get(_LAST_FILE) != file.file_id:
        text = plan_document.text_of(file.getvalue(), file.name)
        st.session_state[_LAST_FILE] = file.file_id
        st.session_state["sweep-pasted"], st.session_state[_FILE_NAME] = text, file.name
    widgets.html_block('<div class="cdka-quiet">The file names its own model and task.</div>')
    pasted = st.text_area(
        "or paste one",
        **form_memory.kept("sweep-pasted"),
        height=380,
        help="The same file as for: cdka sweep plan.toml",
    )
    name = st.session_state.get(_FILE_NAME) or plan_document.FILE
    return plan_document.read(pasted.encode(), name) if pasted.strip() else None
