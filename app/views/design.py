"""Design: from a model and a budget to one configuration, every number of it in sight."""

from __future__ import annotations

import streamlit as st

from app import comparison_list, configurations, data, state, widgets
from app.design import budget_form, inspect_option, option_list

state.arrive("design")

with st.container(key="design-body"):
    ask, see, detail = st.columns([1.05, 2.3, 1.55], gap="medium")

solution = option = None
with ask, widgets.errors_shown():
    shapes = budget_form.model()
    modules = budget_form.modules(shapes)
    budget = budget_form.budget(shapes, modules)
    solution = data.solution(shapes, budget, modules, option_list.weights(), option_list.limits())
    entries, usable = comparison_list.widget(), False
    with widgets.errors_shown():
        configurations.check(entries)
        usable = bool(entries)
    if st.button("Fine-tune these", width="stretch", type="primary", disabled=not usable, key="go-tune"):
        picked = tuple(st.session_state.get("modules") or state.default("modules"))
        state.go("finetune", basket=tuple(entries), on=shapes.name, modules=picked)

if solution is not None:
    with detail:
        option = inspect_option.steppers(solution)
        if option is not None:
            inspect_option.numbers(option, solution)
            inspect_option.actions(option, solution)
            inspect_option.picture(option, solution)
            inspect_option.explanation(option, solution)
    with see:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            option_list.heights()
            option_list.which()
            option_list.weigh()
        option_list.scatter(solution, option)
        option_list.options(solution, option, modules)
    if option is not None:
        inspect_option.code_blocks(option, solution, modules, str(budget))
