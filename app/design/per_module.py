"""Alternatives to the table: guidelines with their reasons, and different components for different modules."""

from __future__ import annotations

import html
from collections.abc import Mapping

import streamlit as st

from app import comparison_list, data, state, widgets
from app.design import inspect_option, snippets
from app.finetune.run_request import carry_pattern
from app.owndata import picker
from app.pickers import task_picker
from cdka.components import Components
from cdka.cost import adapter as cost
from cdka.models.targets import paths_of
from cdka.solver import MEASURES, PRESETS, Option, Pattern, Solution, obstacles, spend_residual

HEIGHT = 340
_FROM_NOTHING, _FROM_DATA = "nothing", "your data"
_MEASURED = "pattern-measured"
"""The requests whose gradient the reader asked to measure."""


def guidelines(solution: Solution) -> None:
    """Every guideline that something follows: what it picks, why one would follow it, and whose it is."""
    with st.container(height=HEIGHT, border=True, key="design-guidelines"):
        for name, option in solution.presets().items():
            preset = PRESETS[name]
            text, button = st.columns([7, 1], vertical_alignment="center")
            with text:
                widgets.html_block(
                    f"<b>{html.escape(preset.title)}</b> {widgets.chip_html(option.components, _hover(option))} "
                    f"{widgets.count_html(option.num_params, 'parameters')}<br>"
                    f'<span class="cdka-quiet">{html.escape(preset.explanation)} ({preset.source})</span>'
                )
            button.button("Show", key=f"look-{name}", on_click=inspect_option.pick, args=(option.components,))


def modules(solution: Solution, option: Option | None, target_modules: snippets.Targets) -> None:
    """One budget, different components per module: what it maximises, what it gains over uniform, and the code."""
    with st.container(height=HEIGHT, border=True, key="design-pattern"):
        left, right = st.columns([1, 1], vertical_alignment="bottom")
        measure = left.segmented_control(
            "Maximise",
            list(MEASURES),
            default=MEASURES[0],
            required=True,
            key="pattern-measure",
            help="balanced: the geometric mean of the modules' alignments, so that none is starved; overall: the root "
            "mean square, the number that options carry.",
        )
        fits = option is not None and not obstacles(solution.linears, option.components)
        able = fits and option.residual > 0
        st.session_state.setdefault("pattern-start", _FROM_NOTHING)
        start = right.segmented_control(
            "Start from",
            [_FROM_NOTHING, inspect_option.FROM_OPTION, _FROM_DATA],
            required=True,
            key="pattern-start",
            help="From nothing: the best mixture. From the selected option: what it leaves buys more components. From "
            "your data: what captures most of a gradient measured on a task.",
        )
        if start == _FROM_DATA:
            return _of_data(solution, target_modules, measure)
        if start == _FROM_NOTHING:
            found = data.pattern(solution.shapes, solution.budget, target_modules, measure, solution.given_limits)
        elif able:
            found = spend_residual(solution, option, measure)
        else:
            reason = "uses the whole budget. Choose a cheaper one" if fits else "does not divide every module"
            return widgets.remark(f"The selected option {reason}.")
        _show(found, solution, target_modules)


def _of_data(solution: Solution, target_modules: snippets.Targets, measure: str) -> None:
    """The mixture that captures most of a gradient: the task, a button that measures, the result and its limits."""
    task = task_picker("task", solution.shapes)
    options = picker.data_form(task.name) if task.is_own_data else {}
    if options is None:
        return
    targets = target_modules if isinstance(target_modules, str) else tuple(target_modules)
    asked = (
        solution.shapes.name,
        task.name,
        str(solution.budget).replace(",", "").replace(" ", ""),
        targets,
        measure,
        solution.given_limits,
        tuple(sorted(options.items())),
    )
    if st.session_state.get(_MEASURED) != asked and not st.button(
        "Measure the gradient",
        key="pattern-gradient",
        type="primary",
        help="Loads the model and backpropagates it on eight batches, in a process of its own; seconds for an embedded "
        "one.",
    ):
        return
    with st.spinner("Measuring"):
        found = data.gradient_pattern(*asked)
    st.session_state[_MEASURED] = asked
    _show(found, solution, target_modules, task=options.get("data", task.name))
    widgets.remark(
        "This is what the best start captures of the first gradient, not what training reaches: the study "
        "from-gradients holds such mixtures against the advised option and LoRA."
    )


def _show(found: Pattern, solution: Solution, target_modules: snippets.Targets, task: str = "") -> None:
    gain = found.value / found.uniform_value - 1
    where = f" with the first gradient on {html.escape(task)}, from the best start," if task else ""
    widgets.html_block(
        f"{found.measure.capitalize()} alignment{where} <b>{found.value:.3f}</b> against {found.uniform_value:.3f} for "
        f"{widgets.chip_html(found.uniform.components)} everywhere: {gain:+.1%} with "
        f"{widgets.count_html(found.num_params, 'parameters')}, {found.residual:,} left."
    )
    rows = "".join(
        f"<tr><td>{html.escape(path)}</td><td>{widgets.chip_html(components)}</td>"
        f"<td>{widgets.count_html(_params(solution, path, components))}</td></tr>"
        for path, components in found.choices
    )
    widgets.html_block(f'<table class="cdka-costs">{rows}</table>')
    pattern, default = found.component_pattern(), found.default
    st.code(snippets.python(solution.shapes, target_modules, default, solution.alpha, pattern), language="python")
    if st.button(
        "Fine-tune this mixture",
        key="tune-pattern",
        type="primary",
        help="Carries the components of every module to Fine-tune.",
    ):
        _fine_tune(solution, target_modules, default, pattern)
    budget_text = str(solution.budget)
    st.code(
        snippets.command_lines(solution.shapes, target_modules, budget_text, default, pattern, measured_on=task),
        language="bash",
        wrap_lines=True,
    )


def _fine_tune(
    solution: Solution, targets: snippets.Targets, default: Components, pattern: Mapping[str, Components]
) -> None:
    """Leave for Fine-tune with this mixture as the one configuration to train."""
    st.session_state[comparison_list.KEY] = [str(default)]
    carry_pattern(solution.shapes.name, str(default), {key: str(value) for key, value in pattern.items()})
    state.go(
        "finetune",
        basket=(str(default),),
        on=solution.shapes.name,
        modules=(targets,) if isinstance(targets, str) else tuple(targets),
    )


def _params(solution: Solution, path: str, components: Components) -> int:
    """Parameters of all modules of a path with an index left open, or of the one module of a whole path."""
    kinds = [linear for linear in solution.linears if linear.path == path]
    if kinds:
        return cost.num_params(kinds, components)
    linear = next(s for s in solution.linears if any(path in variants for variants in paths_of(s)))
    return components.num_params(linear.out_features, linear.in_features)


def _hover(option: Option) -> str:
    return widgets.configuration_hover(option.components, rank_bound=option.rank_bound, alignment=option.alignment)
