"""Design: from a model and a budget to one configuration, with the reason, and every number of it in sight."""

from __future__ import annotations

import streamlit as st

from app import comparison_list, configurations, data, state, widgets
from app.design import advice_card, budget_form, inspect_option, memory, option_list
from cdka.solver import advise

state.arrive("design")
widgets.heading("Design", "Which adapter for this model and this budget?")

advised = st.container(key="design-advised")  # above all else: the questions below it decide what it says
with st.container(key="design-body"):
    ask, see, detail = st.columns([1.05, 2.3, 1.55], gap="medium")

solution = None
with ask, widgets.errors_shown():
    shapes = budget_form.model()
    modules = budget_form.modules(shapes)
    rule = budget_form.indivisible()
    budget = budget_form.budget(shapes, modules, rule)
    device = memory.device_picker()
    solution = data.solution(shapes, budget, modules, option_list.weights(), option_list.limits(), rule)
    entries = comparison_list.widget()
    valid, _ = configurations.split_valid(entries)
    if st.button("Fine-tune these", width="stretch", type="primary", disabled=not valid, key="go-tune"):
        comparison_list.fine_tune(shapes.name)

if solution is not None:
    with advised, widgets.errors_shown():
        advice = advise(
            solution,
            setting=memory.setting(shapes),
            device=device,
            max_export_rank=option_list.max_export_rank(),
        )
        advice_card.show_advice(advice, solution)
    inspect_option.open_on(advice.option.components)
    with detail:
        option = inspect_option.steppers(solution, advice.option.components)
        inspect_option.numbers(option, solution, device)
        inspect_option.actions(option, solution)
        inspect_option.picture(option, solution)
        inspect_option.explanation(option, solution)
    with see:
        with st.container(horizontal=True, horizontal_alignment="distribute", gap="xsmall", key="design-lists"):
            option_list.heights()
            option_list.which()
            option_list.order_popover()
        option_list.scatter(solution, option)
        option_list.options(solution, option, advice, modules)
    inspect_option.code_blocks(option, solution, modules, str(budget))
