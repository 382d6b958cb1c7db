"""What stands in place of the table: guidelines with their reasons, and different components for different modules."""

from __future__ import annotations

import html
import json

import streamlit as st

from app import data, parts
from app.design import chosen
from cdka import cost
from cdka.solver import MEASURES, PRESETS, Option, Pattern, Solution, spend_residual

HEIGHT = 282


def guidelines(solution: Solution) -> None:
    """Every guideline that something follows: what it picks, why one would follow it, and whose it is."""
    with st.container(height=HEIGHT, border=True, key="design-guidelines"):
        for name, option in solution.presets().items():
            preset = PRESETS[name]
            told, look = st.columns([7, 1], vertical_alignment="center")
            with told:
                parts.show(
                    f"<b>{html.escape(preset.title)}</b> {parts.chip_html(option.components, _hover(option))} "
                    f"{parts.count_html(option.num_params, 'parameters')}<br>"
                    f'<span class="cdka-quiet">{html.escape(preset.explanation)} ({preset.source})</span>'
                )
            look.button("Look", key=f"look-{name}", on_click=chosen.pick, args=(option.components,))


def modules(solution: Solution, option: Option | None) -> None:
    """One budget, different components per module: what it maximises, what it gains over uniform, and the code."""
    with st.container(height=HEIGHT, border=True, key="design-pattern"):
        left, right = st.columns([1, 1], vertical_alignment="bottom")
        measure = left.segmented_control(
            "Maximise", list(MEASURES), default=MEASURES[0], required=True, key="pattern-measure",
            help="balanced: the geometric mean of the modules' alignments, so that none is starved; overall: the root "
            "mean square, the number that options carry.",
        )  # fmt: skip
        able = option is not None and option.residual > 0
        start = right.segmented_control(
            "Start from", ["nothing", "the option looked at"], default="nothing", required=True, key="pattern-start",
            help="From nothing: the best mixture. From the option: spend what it leaves on more components.",
        )  # fmt: skip
        if start == "nothing" or not able:
            found = data.pattern(solution.shapes, solution.budget, _target(solution), measure)
        else:
            found = spend_residual(solution, option, measure)
        _show(found, solution)


def _show(found: Pattern, solution: Solution) -> None:
    gain = found.value / found.uniform_value - 1
    parts.show(
        f"{found.measure.capitalize()} alignment <b>{found.value:.3f}</b> against {found.uniform_value:.3f} for "
        f"{parts.chip_html(found.uniform.components)} everywhere: {gain:+.1%} with "
        f"{parts.count_html(found.num_params, 'parameters')}, {found.residual:,} left."
    )
    rows = "".join(
        f"<tr><td>{html.escape(path)}</td><td>{parts.chip_html(components)}</td>"
        f"<td>{parts.count_html(_params(solution, path, components))}</td></tr>"
        for path, components in found.choices
    )
    parts.show(f'<table class="cdka-costs">{rows}</table>')
    keys = {name: list(c.as_tuple()) for name, c in found.component_pattern().items()}
    default = found.default
    st.code(
        f"CdkaConfig(r1={default.r1}, r2={default.r2}, r={default.r}, alpha={solution.alpha:g},\n"
        f"           component_pattern={json.dumps(keys)}, target_modules=...)",
        language="python",
    )


def _params(solution: Solution, path: str, components) -> int:
    return cost.num_params([linear for linear in solution.linears if linear.path == path], components)


def _target(solution: Solution) -> tuple[str, ...]:
    return tuple(dict.fromkeys(linear.path for linear in solution.linears))


def _hover(option: Option) -> str:
    return parts.configuration_hover(option.components, rank_bound=option.rank_bound, alignment=option.alignment)
