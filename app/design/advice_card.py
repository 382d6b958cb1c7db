"""The room's first answer: one sentence, one chip, the reason, and what to take for another wish."""

from __future__ import annotations

import html

import streamlit as st

from app import comparison_list, state, widgets
from app.design import inspect_option
from cdka import formatting
from cdka.components import Components
from cdka.solver import Option, Solution
from cdka.solver.default_option import Advice, record, too_much

_TAKEN = "design-taken"


def show_advice(advice: Advice, solution: Solution) -> None:
    """The sentence with its chip, the button that takes it, and the runners-up as buttons."""
    option = advice.option
    with st.container(border=True, key="design-advice"):
        left, act = st.columns([5.2, 1], vertical_alignment="center", gap="small")
        with left:
            widgets.html_block(
                f'<div class="cdka-headline">For {widgets.count_html(solution.budget_params, "parameters")} on '
                f"<b>{html.escape(solution.shapes.name)}</b> take {_chip(advice)}</div>"
                f'<div class="cdka-why">{html.escape(_sentence(advice.why))} {html.escape(_memory(advice))}</div>'
                + (f'<div class="cdka-quiet">{html.escape(record())}</div>' if record() else "")
            )
        with act:
            _act(option, solution)
        if advice.others:
            with st.container(horizontal=True, vertical_alignment="center", gap="small", key="design-others"):
                widgets.html_block('<span class="cdka-quiet">For another wish:</span>')
                for wish, other in advice.others.items():
                    st.button(
                        f"{wish}: cdka {other.components}",
                        key=f"take-{wish.replace(' ', '-')}",
                        on_click=inspect_option.pick,
                        args=(other.components,),
                        help=f"alignment {other.alignment:.3f}, rank up to {other.rank_bound:,}, "
                        f"{formatting.percent(other.flops_overhead)} more arithmetic",
                    )


def _act(option: Option, solution: Solution) -> None:
    """The button that takes the advice; once it is taken, the button that trains it."""
    taken = st.session_state.get(_TAKEN) == (solution.shapes.name, str(option.components))
    if not (taken and str(option.components) in comparison_list.contents()):
        st.button(
            "Take this one",
            key="take-advice",
            type="primary",
            width="stretch",
            on_click=_take,
            args=(solution.shapes.name, option.components),
            help="Shows it below with its numbers, its drawing and its code, and puts it into the comparison.",
        )
    elif st.button(
        "Fine-tune it",
        key="tune-advice",
        type="primary",
        width="stretch",
        help="Against LoRA of equal cost: one more click starts it.",
    ):
        comparison_list.fine_tune(solution.shapes.name)


def _take(model: str, components: Components) -> None:
    inspect_option.pick(components)
    if comparison_list.contents() == list(state.default(comparison_list.KEY)):
        st.session_state[comparison_list.KEY] = []  # nobody chose what it held
    comparison_list.add(str(components))
    st.session_state[_TAKEN] = (model, str(components))


def _chip(advice: Advice) -> str:
    option = advice.option
    hover = widgets.configuration_hover(option.components, rank_bound=option.rank_bound, alignment=option.alignment)
    return widgets.chip_html(option.components, hover)


def _sentence(why: str) -> str:
    return why[:1].upper() + why[1:]


def _memory(advice: Advice) -> str:
    """The memory in a sentence, with the device where one is named."""
    if advice.memory_bytes is None:
        return ""
    memory = f"Training takes about {formatting.size(advice.memory_bytes)} at {advice.setting}"
    if advice.device is None:
        return memory + "."
    if advice.fits:
        return f"{memory}: it fits {advice.device.name}."
    return f"{memory}: {too_much(advice.device)}. No option is sure to fit; a smaller batch needs less."
