"""Start: what the Studio is, and three things to do in a minute."""

from __future__ import annotations

import html
from pathlib import Path

import streamlit as st

import cdka
from app import state, widgets
from cdka.components import Components

PAPER = "https://arxiv.org/abs/2602.01267"

widgets.heading("CDKA Studio", "Explore, teach and compare Kronecker adapters for fine-tuning.")
widgets.html_block(
    '<p class="cdka-lead">An adapter is a small trainable part beside a frozen model. LoRA makes its update from two '
    "thin matrices; CDKA sums r Kronecker products, whose shapes r1 and r2 decide what the same number of parameters "
    "buys: "
    f"{widgets.chip_html(Components(2, 8, 4))} is the paper's default. Everything here runs on this machine.</p>"
)
design, race, learn = st.columns(3, gap="medium")
with design, st.container(border=True, key="start-design", height="stretch"):
    st.markdown("##### Find the adapter for your model")
    st.markdown("Name a model and a budget: the Studio says which one to take, why, and what it needs.")
    with st.container(horizontal=True, vertical_alignment="center"):
        widgets.link_button("views/design.py", label="Open Design", query_params=state.query("design", budget="lora:8"))
        large = state.query("design", model="llama-2-7b", budget="lora:8")
        st.page_link("views/design.py", label="with llama-2-7b", query_params=large)
with race, st.container(border=True, key="start-race", height="stretch"):
    st.markdown("##### Watch a race, in a minute")
    st.markdown("CDKA against LoRA of equal cost on flipped digits: curves as they come, then one headline.")
    widgets.link_button("views/finetune.py", label="Open Fine-tune")
with learn, st.container(border=True, key="start-learn", height="stretch"):
    st.markdown("##### Touch a Kronecker product")
    st.markdown("Short chapters with figures that answer: drag a number, predict, check, keep the notebook.")
    widgets.link_button("views/learn.py", label="Open Learn")
widgets.html_block(
    '<p class="cdka-quiet">Then: <b>Align</b> measures how closely the first step follows full fine-tuning, '
    "<b>Sweeps</b> trains many configurations and the paper's claims, <b>Compare</b> says what the runs showed, with "
    "intervals. "
    f'The paper: <a href="{PAPER}" target="_blank" rel="noopener">arXiv 2602.01267</a>. '
    f"The code: <code>{html.escape(str(Path(cdka.__file__).parent))}</code>.</p>"
)
