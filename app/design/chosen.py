"""The option looked at: steppers that say why a value does not fit, numbers, picture, why this one, the code."""

from __future__ import annotations

import html

import streamlit as st

from app import basket, parts, state, words
from app.design import code
from app.design.picture import option_svg
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.solver import Option, Solution, evaluate, obstacles, why_this

TIMES = {"r1": "rows of each A_i; halves B_i, costs alignment, buys rank",
         "r2": "columns of each B_i; shortens A_i, buys alignment",
         "r": "components summed; costs parameters in proportion, with diminishing returns"}  # fmt: skip


def pick(components: Components) -> None:
    """Look at this configuration: the steppers and the URL follow."""
    for name, value in zip(("r1", "r2", "r"), components.as_tuple(), strict=True):
        st.session_state[name] = value


def steppers(solution: Solution) -> Option | None:
    """Asks for r1, r2 and r; the option's numbers, or None after telling in red why it cannot be used."""
    columns = st.columns(3, gap="small")
    values = [
        column.number_input(name, 1, state.MOST, state.default(name), step=1, help=TIMES[name], **state.bound(name))
        for name, column in zip(("r1", "r2", "r"), columns, strict=True)
    ]
    components = Components(*(int(value) for value in values))
    stuck = obstacles(solution.linears, components)
    if stuck:
        _mark_red([obstacle.name for obstacle in stuck])
        for obstacle in stuck:
            parts.error(_short(str(obstacle)))
            for value in obstacle.nearest:
                st.button(
                    f"Use {obstacle.name} = {value}", key=f"use-{obstacle.name}-{value}", on_click=_set,
                    args=(obstacle.name, value),
                )  # fmt: skip
        return None
    option = solution.find(components) or evaluate(
        solution.shapes, components, target_modules=[s.path for s in solution.linears], budget=solution.budget
    )
    if option.budget_used > 1:
        _mark_red(["r"])
        best = solution.preset("paper") or solution.top(1)[0]
        parts.error(
            f"Over the budget by {words.percent(option.budget_used - 1)}: {option.num_params:,} of "
            f"{solution.budget_params:,} parameters."
        )
        c = best.components
        st.button(f"Take r1 {c.r1} · r2 {c.r2} · r {c.r}, which fits", on_click=pick, args=(c,), key="take-fitting")
    return option


def numbers(option: Option, solution: Solution) -> None:
    """The chip and the figures that decide: parameters, share, rank, alignment, scaling, residual."""
    hover = parts.configuration_hover(
        option.components, rank_bound=option.rank_bound, alignment=option.alignment, alpha=solution.alpha
    )
    share = words.percent(option.num_params / solution.shapes.base_params)
    figures = (
        ("of the model", share),
        ("of the budget", words.percent(option.budget_used)),
        ("left over", f"{option.residual:,}" if option.residual >= 0 else "none"),
        ("alignment", f"{option.alignment:.3f}"),
        ("rank up to", f"{option.rank_bound:,}"),
        ("scaling", f"{option.scaling:.3g}"),
    )
    cells = "".join(f"<div><b>{html.escape(value)}</b><span>{name}</span></div>" for name, value in figures)
    parts.show(
        f'<div class="cdka-headline">{parts.chip_html(option.components, hover)} '
        f'{parts.count_html(option.num_params, "parameters")}</div><div class="cdka-figures">{cells}</div>'
    )


def picture(option: Option, solution: Solution) -> None:
    """The shapes of the largest kind of layer, drawn to scale, LoRA of equal cost below."""
    layer = max(solution.linears, key=lambda s: (s.num_weights, s.count))
    cost = option.components.num_params(layer.out_features, layer.in_features)
    rank = cost // (layer.out_features + layer.in_features)
    parts.show(option_svg(option.components, layer.out_features, layer.in_features, rank, layer.name))
    size = f"{layer.out_features:,} × {layer.in_features:,}"
    parts.caption(f"Layer {layer.name}, {size}, one of {words.plural(layer.count, 'layer')}.")


def explanation(option: Option, solution: Solution) -> None:
    """Why this one: two sentences from the numbers."""
    parts.show(f'<div class="cdka-why">{html.escape(why_this(option, solution))}</div>')


def to_basket(option: Option) -> None:
    """The button that carries this option to Fine-tune."""
    inside = basket.entry(option.components) in basket.contents()
    st.button(
        "In the comparison" if inside else "Add to the comparison", type="secondary" if inside else "primary",
        disabled=inside or option.budget_used > 1, on_click=basket.add, args=(basket.entry(option.components),),
        key="add-chosen", width="stretch",
    )  # fmt: skip


def snippets(option: Option, solution: Solution, target_modules: str, budget: str) -> None:
    """Python and command line, each with a copy button."""
    python, shell = st.tabs(["Python, stock PEFT", "Command line"])
    python.code(code.python(solution.shapes, target_modules, option.components, solution.alpha), language="python")
    shell.code(code.command_lines(solution.shapes, target_modules, budget, option.components), language="bash")


def fits(components: Components, layers: tuple[LinearShape, ...]) -> bool:
    """Whether the components divide every layer."""
    return not obstacles(layers, components)


def components_of(entries: list[str]) -> list[Components]:
    """The CDKA configurations among basket entries."""
    found = []
    for text in entries:
        try:
            settings = basket.settings(text)
        except CdkaError:
            continue
        if "components" in settings:
            found.append(settings["components"])
    return found


def _set(name: str, value: int) -> None:
    st.session_state[name] = value


def _short(text: str, most: int = 260) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _mark_red(names: list[str]) -> None:
    rules = ", ".join(f".st-key-{name} [data-testid=stNumberInputContainer]" for name in names)
    st.html(f"<style>{rules} {{ border-color: var(--bad) !important; box-shadow: 0 0 0 1px var(--bad); }}</style>")
