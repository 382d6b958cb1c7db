"""The selected option: steppers with the reason where a value does not fit, numbers, picture, why, code."""

from __future__ import annotations

import html

import streamlit as st

from app import comparison_list, state, widgets
from app.design import memory, snippets
from app.design.factor_drawing import option_svg
from app.design.memory import Cell
from cdka import formatting
from cdka.adapter_files.serving import VLLM_RANKS
from cdka.components import Components
from cdka.machine import Device
from cdka.solver import Option, Solution, evaluate, obstacles, why_this
from cdka.solver.explain import fitted_in_words
from cdka.solver.feasible import Obstacle
from cdka.tasks.catalogue import find_task

TIMES = {
    "r1": "rows of each A_i; divides the rows of B_i, costs alignment, buys rank",
    "r2": "columns of each B_i; shortens A_i, buys alignment",
    "r": "components summed; costs parameters in proportion, with diminishing returns",
}


_LAST = "design-last-option"
FROM_OPTION = "this option"
"""The start of a mixture per module that spends the rest of the option's budget."""
PARETO = (
    "On the Pareto front: no other option is better in parameters, alignment or rank without being worse in another"
)


def pick(components: Components) -> None:
    """Look at this configuration: the steppers and the URL follow."""
    for name, value in zip(("r1", "r2", "r"), components.as_tuple(), strict=True):
        st.session_state[name] = value


def open_on(components: Components) -> None:
    """Show this configuration on arrival, unless the address or the reader has named another."""
    if not any(name in st.query_params or name in st.session_state for name in ("r1", "r2", "r")):
        pick(components)


def steppers(solution: Solution, default: Components) -> Option:
    """Asks for r1, r2 and r; the option's numbers. What cannot be used is told in red, all at once, and the last
    option that could be, else ``default``, stays in sight.
    """
    columns = st.columns(3, gap="small")
    values = [
        column.number_input(
            name, 1, state.MAX_VALUE, state.default(name), step=1, help=TIMES[name], **state.bound(name)
        )
        for name, column in zip(("r1", "r2", "r"), columns, strict=True)
    ]
    components = Components(*(int(value) for value in values))
    stuck = _stuck(solution, components)
    if stuck:
        _mark_red([obstacle.name for obstacle in stuck])
        for obstacle in stuck:
            widgets.error(str(obstacle))
            with st.container(horizontal=True):
                for value in obstacle.nearest:
                    st.button(
                        f"Use {obstacle.name} = {value}",
                        key=f"use-{obstacle.name}-{value}",
                        on_click=_set,
                        args=(obstacle.name, value),
                    )
        components = st.session_state.get(_LAST, default)
        if _stuck(solution, components):
            components = default
        widgets.html_block(f'<div class="cdka-quiet">Showing {widgets.chip_html(components)} meanwhile.</div>')
    st.session_state[_LAST] = components
    option = solution.find(components) or evaluate(
        solution.shapes,
        components,
        target_modules=[s.path for s in solution.linears],
        budget=solution.budget,
        indivisible=solution.indivisible,
    )
    if option.budget_used > 1 and not stuck:
        _mark_red(["r"])
        widgets.error(
            f"Over the budget: {option.num_params:,} parameters, {formatting.times(option.budget_used)} the "
            f"{solution.budget_params:,} allowed."
        )
        st.button(f"Take cdka {default}, which fits", on_click=pick, args=(default,), key="take-fitting")
    return option


def _stuck(solution: Solution, components: Components) -> list[Obstacle]:
    """Reasons why these components cannot be used: they divide not every module, or where that is allowed, none."""
    found = obstacles(solution.linears, components)
    if not found or solution.indivisible == "error":
        return found
    return found if all(own is None for _, own in solution.fitted(components)) else []


def numbers(option: Option, solution: Solution, device: Device | None) -> None:
    """The chip and the figures that decide: cost, share, alignment, rank, arithmetic, file, memory and its fit."""
    hover = widgets.configuration_hover(
        option.components, rank_bound=option.rank_bound, alignment=option.alignment, alpha=solution.alpha
    )
    over = option.budget_used > 1
    cells = [
        Cell(formatting.percent(option.num_params / solution.shapes.base_params), "of the model"),
        Cell(formatting.percent(option.budget_used), "of the budget", bad=over),
        Cell("none" if over else formatting.count(option.residual), "left over", f"{option.residual:,} parameters"),
        Cell(f"{option.scaling:.3g}", "scaling", f"alpha / sqrt(r r2), alpha = {solution.alpha:g}"),
        Cell(f"{option.alignment:.3f}", "alignment", "expected cosine of the first step with full fine-tuning's"),
        Cell(f"{option.rank_bound:,}", "rank up to", "bound on the rank of ΔW, mean over the modules"),
        Cell(formatting.percent(option.flops_overhead), "extra arithmetic", "of the base model's forward pass"),
        Cell(formatting.flops(option.flops_per_token), "a token", "extra, forward; twice that backward"),
        Cell(f"{option.export_rank:,}", "LoRA export", _served(option.export_rank)),
        *_data(option, solution),
        *memory.cells(option, solution, device),
    ]
    body = "".join(
        f"<div{_title(cell.hover)}><b{_bad(cell)}>{html.escape(cell.value)}</b><span>{html.escape(cell.name)}</span></div>"
        for cell in cells
    )
    mark = f' <span class="cdka-quiet" title="{PARETO}">on the Pareto front</span>' if option.pareto else ""
    widgets.html_block(
        f'<div class="cdka-headline">{widgets.chip_html(option.components, hover)} '
        f'{widgets.count_html(option.num_params, "parameters")}{mark}</div><div class="cdka-figures">{body}</div>'
    )


def _data(option: Option, solution: Solution) -> list[Cell]:
    """The tokens of data for each parameter, where a task of this model has data that are known."""
    name = snippets.task_for(solution.shapes)
    tokens = None if name is None else find_task(name).num_loss_tokens
    if tokens is None:
        return []
    description = f"{tokens:,} targets that the loss counts in one pass over {name}, for each trainable parameter"
    return [Cell(formatting.significant(tokens / option.num_params, 2), "loss tokens a parameter", description)]


def actions(option: Option, solution: Solution) -> None:
    """Actions on the option: compare it, spend the rest of its budget, estimate the memory of another batch."""
    compare, spend, batch = st.columns([1.25, 1.1, 1], gap="xsmall")
    entry = str(option.components)
    inside = entry in comparison_list.contents()
    compare.button(
        "Remove from comparison" if inside else "Compare this",
        type="secondary" if inside else "primary",
        width="stretch",
        disabled=option.budget_used > 1 and not inside,
        on_click=comparison_list.remove if inside else comparison_list.add,
        args=(entry,),
        key="add-chosen",
        help="What is compared is carried to Fine-tune.",
    )
    spend.button(
        "Spend the rest",
        on_click=_spend,
        key="use-rest",
        width="stretch",
        disabled=option.residual <= 0,
        help=f"{max(0, option.residual):,} parameters are left: some modules get more components, see Per module.",
    )
    with batch:
        memory.batch_popover(solution)


def picture(option: Option, solution: Solution) -> None:
    """The shapes of the largest kind of layer, drawn to scale, beside the largest LoRA that costs no more."""
    adapted = [(s, own) for s, own in solution.fitted(option.components) if own is not None]
    layer, own = max(adapted, key=lambda pair: (pair[0].num_weights, pair[0].count))
    cost = own.num_params(layer.out_features, layer.in_features)
    rank = cost // (layer.out_features + layer.in_features)
    widgets.html_block(option_svg(own, layer.out_features, layer.in_features, rank, layer.name))
    size = f"{layer.out_features:,} × {layer.in_features:,}"
    widgets.caption(f"Layer {layer.name}, {size}, one of {formatting.plural(layer.count, 'layer')} like it.")


def explanation(option: Option, solution: Solution) -> None:
    """Reasons for the option from its numbers, and the modules that get other components or none."""
    reasons = " ".join(filter(None, (fitted_in_words(option, solution), why_this(option, solution))))
    widgets.html_block(f'<div class="cdka-why">{html.escape(reasons)}</div>')


def code_blocks(option: Option, solution: Solution, target_modules: snippets.Targets, budget: str) -> None:
    """Python and command line, each with a copy button."""
    left, right = st.columns(2, gap="medium")
    c, alpha, rule = option.components, solution.alpha, solution.indivisible
    left.code(snippets.python(solution.shapes, target_modules, c, alpha, indivisible=rule), language="python")
    lines = snippets.command_lines(solution.shapes, target_modules, budget, c, indivisible=rule)
    right.code(lines, language="bash", wrap_lines=True)


def _spend() -> None:
    st.session_state["list"] = "Per module"
    st.session_state["pattern-start"] = FROM_OPTION


def _served(rank: int) -> str:
    """The class of server that the exact LoRA export needs."""
    smallest = next((value for value in VLLM_RANKS if value >= rank), None)
    if smallest is None:
        return f"rank of the exact LoRA export: above the {VLLM_RANKS[-1]} that vLLM serves, merge it instead"
    return f"rank of the exact LoRA export; vLLM serves it with --max-lora-rank {smallest}"


def _title(text: str) -> str:
    return f' title="{html.escape(text, quote=True)}"' if text else ""


def _bad(cell: Cell) -> str:
    return ' class="bad"' if cell.bad else ""


def _set(name: str, value: int) -> None:
    st.session_state[name] = value


def _mark_red(names: list[str]) -> None:
    rules = ", ".join(f".st-key-{name} [data-testid=stNumberInputContainer]" for name in names)
    st.html(f"<style>{rules} {{ border-color: var(--bad) !important; box-shadow: 0 0 0 1px var(--bad); }}</style>")
