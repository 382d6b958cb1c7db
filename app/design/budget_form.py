"""The questions of the Design room: which model, which modules, how many parameters."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import streamlit as st

from app import state, widgets
from app.pickers import model_picker
from cdka import formatting
from cdka.cost.adapter import full_params
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.models.targets import ROLE_TARGETS, is_expression, select, target_names
from cdka.solver import cheapest, limiting_modules
from cdka.solver.budget import Budget
from cdka.solver.feasible import possible_values

ALL = ROLE_TARGETS[0]
LORA_RANKS = (2, 4, 8, 16)
STEPS_PER_DECADE = 20


def model() -> ModelShapes:
    """The chosen model, with its size, build and origin."""
    shapes = model_picker("model", help="The catalogue, or type a Hub id (only its config.json is read) or a folder.")
    card(shapes)
    return shapes


def card(shapes: ModelShapes) -> None:
    """Size, build and origin of a model in two quiet lines; kind and licence on hover."""
    details = dict(shapes.details)
    facts = [widgets.count_html(shapes.base_params, "parameters")]
    if "num_layers" in details:
        facts.append(f"{details['num_layers']} layers")
    if "hidden_size" in details:
        facts.append(f"hidden {details['hidden_size']:,}")
    origin = "embedded: trains here, offline" if shapes.embedded else f"{shapes.hub_id or 'local folder'}"
    hover = html.escape(f"{shapes.family}, {shapes.kind}. Licence: {shapes.licence or 'not known'}", quote=True)
    widgets.html_block(f'<div class="cdka-quiet" title="{hover}">{" · ".join(facts)}<br>{html.escape(origin)}</div>')


def modules(shapes: ModelShapes) -> str | tuple[str, ...]:
    """The adapted modules as PEFT's target_modules: roles, picked names, or one expression."""
    names = target_names(shapes)
    roles = [role for role in ROLE_TARGETS if role == ALL or role in names]
    known = [name for role in names for name in names[role]]
    chosen = st.multiselect(
        "Adapted modules",
        roles + known,
        default=None if "modules" in st.session_state else [ALL],
        accept_new_options=True,
        select_all=False,
        on_change=_all_or_some,
        **state.bound("modules"),
        help="A role, or names as PEFT matches them (q_proj, v_proj), or a regular expression over full paths. The "
        "head and the embeddings are left out unless named.",
    )
    st.session_state["modules-before"] = list(chosen)
    targets = _targets(chosen)
    try:
        layers = select(shapes, targets)
    except CdkaError as refusal:
        if not shapes.linears:
            raise
        widgets.error(f"{refusal} Using {ALL} meanwhile.")
        targets, layers = ALL, select(shapes, ALL)
    count, weights = sum(layer.count for layer in layers), full_params(layers)
    notes = [
        f"{formatting.plural(count, 'layer')}, {widgets.count_html(weights)} weights, "
        f"{formatting.percent(weights / shapes.base_params)} of the model"
    ]
    experts = dict(shapes.details).get("expert_params", 0)
    if experts:
        notes.append(
            f"Its fused experts ({widgets.count_html(experts)} weights) are not linear layers and get no adapter."
        )
    notes += [html.escape(sentence) for sentence in limiting_modules(layers)[:1]]
    widgets.html_block("".join(f'<div class="cdka-quiet">{note}</div>' for note in notes))
    return targets


def indivisible() -> str:
    """Asks what becomes of a module that r1 or r2 does not divide; a name of ``cdka.components.INDIVISIBLE``."""
    word = st.selectbox(
        "Modules that r1 or r2 does not divide are",
        list(state.RULES),
        index=0,
        **state.bound("indivisible"),
        help="r1 must divide out_features, r2 in_features. Modules of several sizes have few divisors in common: leave "
        "out those that an option does not divide, or give them the nearest r1 and r2 that do.",
    )
    return state.RULES[word]


def _targets(entries: Sequence[str]) -> str | tuple[str, ...]:
    """The picked entries as target_modules; names typed with commas are taken apart, expressions are not."""
    flat = [part for entry in entries for part in ([entry] if is_expression(entry) else entry.split(","))]
    flat = list(dict.fromkeys(part.strip() for part in flat if part.strip())) or [ALL]
    return flat[0] if len(flat) == 1 else tuple(flat)


def _all_or_some() -> None:
    """A pick beside all-linear replaces it; all-linear replaces every pick; nothing means all-linear."""
    now, before = st.session_state["modules"], st.session_state.get("modules-before", [])
    if not now or (ALL in now and ALL not in before):
        st.session_state["modules"] = [ALL]
    elif ALL in now:
        st.session_state["modules"] = [name for name in now if name != ALL]


def budget(shapes: ModelShapes, target_modules: str | tuple[str, ...], indivisible: str) -> Budget:
    """The budget, given with a slider, as text, or as the cost of a LoRA rank: three ways to set one value.

    A budget that cannot be meant, or that nothing fits, is told in place; the nearest that works is returned.
    """
    layers = select(shapes, target_modules)
    least, most = cheapest(layers, *possible_values(layers, indivisible), indivisible)[0], full_params(layers)
    ticks = log_ticks(least, most)
    text = st.session_state.get("budget", st.query_params.get("budget", state.default("budget")))
    parsed, refusal = _understood(text, shapes, layers, least, most)
    now = parsed.params(shapes.base_params, layers)
    st.session_state["budget_slider"] = min(ticks, key=lambda tick: abs(math.log(tick / now)))
    st.select_slider(
        "Budget: trainable parameters at most",
        ticks,
        format_func=formatting.count,
        key="budget_slider",
        on_change=_budget_from_slider,
        help="From the cheapest option to full fine-tuning of these modules, on a log scale.",
    )
    left, right = st.columns([1, 1.9], vertical_alignment="center", gap="xsmall")
    left.text_input(
        "or in words",
        value=state.default("budget"),
        **state.bound("budget"),
    )
    with right:
        rank = int(parsed.value) if parsed.kind == "lora" else None
        st.session_state["budget_rank"] = rank if rank in LORA_RANKS else None
        st.segmented_control(
            "or what LoRA costs, of rank",
            LORA_RANKS,
            key="budget_rank",
            on_change=_budget_from_rank,
        )
    if refusal:
        widgets.error(refusal)
    share = formatting.percent(now / shapes.base_params)
    hint = (
        "A count (24576, 2.5M), a share of the model (0.5%), what a LoRA rank costs here (lora:8), or file size (4MB)"
    )
    widgets.html_block(
        f'<div class="cdka-quiet" title="{hint}">{widgets.count_html(now, "parameters")}, {share} of the model. '
        "Also: 2.5M, 0.5%, lora:8, 4MB.</div>"
    )
    return parsed


def _understood(
    text: str, shapes: ModelShapes, layers: tuple[LinearShape, ...], least: int, most: int
) -> tuple[Budget, str | None]:
    """The budget that ``text`` stands for, and why it had to be changed (None if it had not)."""
    try:
        parsed = Budget.parse(text)
    except CdkaError as refusal:
        usual = Budget.parse(state.default("budget"))
        return usual, f"{refusal} Using {usual} meanwhile."
    now = parsed.params(shapes.base_params, layers)
    if least <= now <= most:
        return parsed, None
    limit = (
        ("least", least, "the smallest option") if now < least else ("most", most, "full fine-tuning of these modules")
    )
    nearest = Budget("count", limit[1])
    return (
        nearest,
        f"the budget must be at {limit[0]} {limit[1]:,} parameters, {limit[2]}: got {parsed}{_in_params(parsed, now)}. "
        f"Using {nearest} meanwhile.",
    )


def _in_params(parsed: Budget, now: int) -> str:
    """The budget in parameters, where it was given in another unit."""
    return "" if parsed.kind == "count" else f", which is {now:,} parameters"


def log_ticks(least: int, most: int) -> list[int]:
    """Round counts (two significant digits) from ``least`` to ``most``, evenly on a log scale; both ends exact."""
    if most <= least:
        return [least, least + 1]
    number = max(2, round(STEPS_PER_DECADE * math.log10(most / least)))
    inner = [least * (most / least) ** (i / number) for i in range(1, number)]
    rounded = [round(value, 1 - math.floor(math.log10(value))) for value in inner]
    return sorted({least, most, *(int(value) for value in rounded if least < value < most)})


def _budget_from_slider() -> None:
    st.session_state["budget"] = str(st.session_state["budget_slider"])


def _budget_from_rank() -> None:
    if (rank := st.session_state["budget_rank"]) is not None:
        st.session_state["budget"] = f"lora:{rank}"
