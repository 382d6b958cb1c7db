"""The room's first answer: one sentence, one chip, the reason, and what to take for another wish."""

from __future__ import annotations

import html

import streamlit as st

from app import widgets
from app.design import inspect_option
from cdka import formatting
from cdka.solver import Solution
from cdka.solver.advice import Advice


def show_advice(advice: Advice, solution: Solution) -> None:
    """The sentence with its chip, the button that takes it, and the runners-up as buttons."""
    option = advice.option
    with st.container(border=True, key="design-advice"):
        told, act = st.columns([5.2, 1], vertical_alignment="center", gap="small")
        with told:
            widgets.html_block(
                f'<div class="cdka-headline">For {widgets.count_html(solution.budget_params, "parameters")} on '
                f"<b>{html.escape(solution.shapes.name)}</b> take {_chip(advice)}</div>"
                f'<div class="cdka-why">{html.escape(_sentence(advice.why))} {html.escape(_memory(advice))}</div>'
            )
        act.button(
            "Take this one",
            key="take-advice",
            type="primary",
            width="stretch",
            on_click=inspect_option.pick,
            args=(option.components,),
            help="Shows it below with its numbers, its drawing and its code.",
        )
        if advice.others:
            with st.container(horizontal=True, vertical_alignment="center", gap="small", key="design-others"):
                widgets.html_block('<span class="cdka-quiet">For another wish:</span>')
                for wish, other in advice.others.items():
                    st.button(
                        f"{wish}: {widgets.components_text(other.components)}",
                        key=f"take-{wish.replace(' ', '-')}",
                        on_click=inspect_option.pick,
                        args=(other.components,),
                        help=f"alignment {other.alignment:.3f}, rank up to {other.rank_bound:,}, "
                        f"{formatting.percent(other.flops_overhead)} more arithmetic",
                    )


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
    told = f"Training takes about {formatting.size(advice.memory_bytes)} at {advice.setting}"
    if advice.device is None:
        return told + "."
    if advice.fits:
        return f"{told}: it fits {advice.device.name}."
    return f"{told}: more than {advice.device.name} has free. No option fits; this one needs least."
