"""Design: from a model and a budget to one configuration, every number of it in sight."""

from __future__ import annotations

import streamlit as st

from app import basket, data, parts, state
from app.design import chosen, controls, look

state.arrive("design")

with st.container(key="design-body"):
    ask, see, detail = st.columns([1.05, 2.3, 1.55], gap="medium")

solution = option = None
with ask, parts.errors_shown():
    shapes = controls.model()
    modules = controls.modules(shapes)
    budget = controls.budget(shapes, modules)
    solution = data.solution(shapes, budget, modules, look.weights(), look.limits())
    entries, usable = basket.widget(), False
    with parts.errors_shown():
        basket.check(entries)
        usable = bool(entries)
    if st.button("Fine-tune these", width="stretch", type="primary", disabled=not usable, key="go-tune"):
        picked = tuple(st.session_state.get("modules") or state.default("modules"))
        state.go("finetune", basket=tuple(entries), on=shapes.name, modules=picked)

if solution is not None:
    with detail:
        option = chosen.steppers(solution)
        if option is not None:
            chosen.numbers(option, solution)
            chosen.actions(option, solution)
            chosen.picture(option, solution)
            chosen.explanation(option, solution)
    with see:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            look.heights()
            look.which()
            look.weigh()
        look.scatter(solution, option)
        look.options(solution, option, modules)
    if option is not None:
        chosen.snippets(option, solution, modules, str(budget))
