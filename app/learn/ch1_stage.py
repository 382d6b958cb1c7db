"""Chapter 1 as a picture: the board of matrices, and bars that compare two ways of multiplying."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from app import parts as studio
from app import words
from app.learn import board
from app.learn.address import LIVE
from app.learn.course import Page, Question
from app.learn.kron import A_SHAPE, B_SHAPE, STEPS, cost, kron, parts, ranks, steps, write_matrix

KEY = "c1_board"


def _took_edit() -> None:
    """Keep an edit: in the session while a drag lasts (each step of it would fill the browser's history), then in
    the URL."""
    edit = st.session_state[KEY].get("edit")
    if not edit:
        return
    if edit["live"]:
        st.session_state[LIVE] = {edit["id"]: tuple(map(tuple, edit["rows"]))}
    else:
        st.session_state.pop(LIVE, None)
        st.query_params[f"c1_{edit['id']}"] = write_matrix(edit["rows"])


def _took_pick() -> None:
    pick = st.session_state[KEY].get("pick")
    if pick:
        st.query_params["c1_pick"] = f"{pick[0]},{pick[1]}"


def _links(row: int, column: int) -> list[str]:
    (i, j), (k, m) = parts(row, column)
    return [f"B:{i}:{j}", f"A:{k}:{m}"]


def product_line(
    values: dict[str, Any], *, edit: bool = True, cover_product: bool = False, focus: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """B (x) A = K. The two numbers of the picked cell are marked, unless the product is covered."""
    pick = tuple(values["pick"])
    of_b, of_a = ([], []) if cover_product else ([place] for place in parts(*pick))
    return [
        board.matrix("B", "B", np.array(values["B"]), "b", edit=edit, now="B" in focus, marked=of_b),
        board.sign("⊗"),
        board.matrix("A", "A", np.array(values["A"]), "a", edit=edit, now="A" in focus, marked=of_a),
        board.sign("="),
        board.matrix(
            "K", "B ⊗ A", kron(values), "k", block=A_SHAPE, links=None if cover_product else _links,
            pick=None if cover_product else pick, marked=[pick] if cover_product else [],
            cover=(lambda i, j: True) if cover_product else None,
        ),
    ]  # fmt: skip


def step_line(values: dict[str, Any]) -> list[dict[str, Any]]:
    """x -> X -> X A^T -> B (X A^T) -> y, as far as the learner has stepped."""
    found = steps(values)
    shown = STEPS.index(values["step"])
    line = [board.matrix("x", "x", np.array(values["x"]), "x", edit=True, shape="6", block=(1, A_SHAPE[1]), now=True)]
    stages = (
        ("cut into rows", "X", found.X, "x"),
        ("times Aᵀ", "X Aᵀ", found.T, "a"),
        ("B times it", "B (X Aᵀ)", found.Y, "b"),
        ("row by row", "y", found.y, "k"),
    )
    for words_, name, value, tint in stages[:shown]:
        line += [board.sign(f"{words_} →"), board.matrix(name, name, value, tint)]
    if shown == len(stages):
        line += [board.sign("equals"), board.matrix("direct", "(B ⊗ A) x, the long way", found.direct, "k")]
    return line


def stage(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    if page.view == "cost":
        _bars(values["size"])
        return
    lines = [product_line(values, focus=page.focus)]
    if page.view == "steps":
        lines.append(step_line(values))
    board.show(lines, KEY, on_edit=_took_edit, on_pick=_took_pick)
    of_b, of_a, of_product = ranks(values)
    rows, columns = B_SHAPE[0] * A_SHAPE[0], B_SHAPE[1] * A_SHAPE[1]
    studio.caption(
        f"{np.size(values['B']) + np.size(values['A'])} numbers make {rows * columns}. Rank {of_b} times rank {of_a} "
        f"makes rank {of_product}. Hatched: negative."
    )


def cover(question: Question, revealed: bool) -> None:
    """The exercise: the product is covered until the prediction is made."""
    board.show(
        [product_line(question.draw, edit=False, cover_product=not revealed)],
        f"c1_question_{int(revealed)}", on_edit=None, on_pick=None,
    )  # fmt: skip


def _bars(n: int) -> None:
    found = cost(n)
    rows = (
        ("Multiplications, full matrix", found.full, "full"),
        ("Multiplications, factored", found.multiplications, "kron"),
        ("Numbers stored, full matrix", found.full, "full"),
        ("Numbers stored, factored", found.numbers, "kron"),
    )
    body = "".join(
        f'<div class="learn-bar"><span>{label}</span><i class="{css}" '
        f'style="width:{max(100 * value / found.full, 0.15):.2f}%">'
        f"</i><b>{words.count(value)}</b></div>"
        for label, value, css in rows
    )
    studio.show(f'<div class="learn-bars">{body}</div>')
    studio.caption(
        f"One vector through a layer of {n:,} × {n:,}: the factored form needs "
        f"{words.percent(found.multiplications / found.full)} of the multiplications and "
        f"{words.percent(found.numbers / found.full)} of the numbers. Counted by cdka.Components(2, 8, 1)."
    )
