"""The figures of chapter 1: the board of matrices, the ellipse, the press, and bars that compare two costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import charts, theme, widgets
from app.learn.address import LIVE
from app.learn.board import matrices as board
from app.learn.board.matrices import short
from app.learn.course import Page, Question
from app.learn.drawing import bars_html, ellipse_svg
from app.learn.gradient import real_gradient
from app.learn.kronecker.numbers import (
    A_SHAPE,
    B_SHAPE,
    SIZES,
    STEPS,
    cost,
    kron,
    parts,
    ranks,
    steps,
    stretches,
    training_bytes,
    write_matrix,
)
from app.learn.press import press
from cdka import formatting
from cdka.components import Components

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
    return [f"B:{i}:{j}", f"S:{i}:{j}", f"A:{k}:{m}"]


def factors(values: dict[str, Any], focus: tuple[str, ...], *, small: bool = False) -> list[dict[str, Any]]:
    """B and A to edit, with the two numbers of the picked cell marked."""
    of_b, of_a = parts(*values["pick"])
    return [
        board.matrix("B", "B", np.array(values["B"]), "b", edit=True, now="B" in focus, marked=[of_b], small=small),
        board.sign("⊗"),
        board.matrix("A", "A", np.array(values["A"]), "a", edit=True, now="A" in focus, marked=[of_a], small=small),
    ]


def product(values: dict[str, Any], *, small: bool = False) -> dict[str, Any]:
    """B (x) A, a cell of which can be picked."""
    return board.matrix(
        "K", "B ⊗ A", kron(values), "k", block=A_SHAPE, links=_links, pick=tuple(values["pick"]), small=small
    )


def block_lines(values: dict[str, Any], focus: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """B and A with a note on the picked cell; beneath, their product as blocks, then as numbers."""
    blocks = board.matrix(
        "S", "block by block", np.array(values["B"]), "b", texts=lambda b: f"{short(b)} · A", wide=True
    )
    return [
        [*factors(values, focus), board.note(describe(values))],
        [board.sign("="), blocks, board.sign("="), product(values)],
    ]


def describe(values: dict[str, Any]) -> str:
    """The picked cell in words: its block, its place, its product."""
    row, column = values["pick"]
    (i, j), (k, m) = parts(row, column)
    b, a = values["B"][i][j], values["A"][k][m]
    return (
        f"Picked: row {row + 1}, column {column + 1}\n"
        f"block of b{_sub(i)}{_sub(j)}, place of a{_sub(k)}{_sub(m)}\n"
        f"{short(b)} · {short(a)} = {short(float(kron(values)[row, column]))}"
    )


def _sub(index: int) -> str:
    return "₁₂₃"[index]


def step_lines(values: dict[str, Any], focus: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """x -> X -> X A^T -> B (X A^T) -> y, as far as the learner has stepped; what comes later is covered."""
    found = steps(values)
    shown = STEPS.index(values["step"])

    def at(step: int, name: str, value: np.ndarray, tint: str, id: str = "") -> dict[str, Any]:
        cover = None if step <= shown else (lambda i, j: True)
        return board.matrix(id or name, name, value, tint, cover=cover, small=True)

    return [
        [*factors(values, focus, small=True), board.sign("="), product(values, small=True)],
        [
            board.matrix(
                "x", "x", np.array(values["x"]), "x", edit=True, shape="6", block=(1, A_SHAPE[1]), now=True, small=True
            ),
            board.sign("cut into rows →"),
            at(1, "X", found.X, "x"),
            board.sign("times Aᵀ →"),
            at(2, "X Aᵀ", found.T, "a"),
        ],
        [
            board.sign("B times it →"),
            at(3, "B (X Aᵀ)", found.Y, "b"),
            board.sign("row by row →"),
            at(4, "y", found.y, "k"),
            board.sign("equals"),
            at(4, "(B ⊗ A) x, the long way", found.direct, "k", "direct"),
        ],
    ]


def draw(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    if page.view == "layer":
        _layer(values["size"])
    elif page.view == "cost":
        _costs(values["size"])
    elif page.view == "fold":
        press.show(Components(values["fold1"], values["fold2"], 1), "fold", "c1_press")
        widgets.caption(f"A Kronecker product of 16 × 16: the closest one to a gradient. {real_gradient().caption}")
    elif page.view == "ellipse":
        left, right = st.container(key="learn-pair").columns([2, 3], gap="medium")
        with left:
            board.show([factors(values, page.focus, small=True)], KEY, on_edit=_took_edit, on_pick=_took_pick)
            first, second = stretches(values)
            widgets.html_block(
                f"Singular values of B: <b>{first:.2f}</b> and <b>{second:.2f}</b>. "
                + ("One of them is zero: the ellipse is a line." if second < 1e-9 else "Neither is zero.")
            )
        with right:
            widgets.html_block(ellipse_svg(np.array(values["B"])))
        _ranks(values)
    else:
        lines = step_lines(values, page.focus) if page.view == "steps" else block_lines(values, page.focus)
        board.show(lines, KEY, on_edit=_took_edit, on_pick=_took_pick)
        _ranks(values)


def _ranks(values: dict[str, Any]) -> None:
    of_b, of_a, of_product = ranks(values)
    rows, columns = B_SHAPE[0] * A_SHAPE[0], B_SHAPE[1] * A_SHAPE[1]
    widgets.html_block(
        f"{np.size(values['B']) + np.size(values['A'])} numbers make {rows * columns}. "
        f"Rank <b>{of_b}</b> times rank <b>{of_a}</b> makes rank <b>{of_product}</b>. "
        '<span class="cdka-quiet">Hatched: negative. Computed by cdka.theory.</span>'
    )


def _layer(n: int) -> None:
    """A layer as a picture, and the bytes of training all of it or an adapter."""
    widgets.html_block(layer_svg())
    full, adapter = training_bytes(n)
    rows = (("Training all of W", full, "full"), ("Training an adapter", adapter, "kron"))
    widgets.html_block(bars_html([(label, value, formatting.size(value), css) for label, value, css in rows]))
    widgets.caption(
        f"Weights, gradients and the optimizer's two numbers for one layer of {n:,} × {n:,}: "
        f"{formatting.percent(adapter / full)} for cdka.Components(2, 8, 1). The frozen W comes on top, without "
        "gradients."
    )


def layer_svg() -> str:
    """y = W x with the names of both sides, and the change beside W."""
    return (
        '<svg viewBox="0 0 560 190" class="learn-layer" role="img" aria-label="A layer: y of length out '
        "is W, out rows by "
        'in columns, times x of length in. An adapter adds a change to W.">'
        '<rect x="30" y="30" width="16" height="120" class="vector"/><text x="38" y="172" class="middle">y</text>'
        '<text x="20" y="94" class="quiet end">out</text><text x="64" y="96">=</text>'
        '<text x="76" y="96" class="big">(</text>'
        '<rect x="104" y="30" width="150" height="120" class="frozen"/><text x="179" y="95" class="middle">W</text>'
        '<text x="179" y="20" class="quiet middle">in</text><text x="179" y="172" class="quiet middle">frozen</text>'
        '<text x="268" y="96">+</text>'
        '<rect x="290" y="30" width="150" height="120" class="change"/><text x="365" y="95" class="middle">ΔW</text>'
        '<text x="365" y="172" class="quiet middle">learned, from few numbers</text>'
        '<text x="448" y="96" class="big">)</text>'
        '<rect x="482" y="15" width="16" height="150" class="vector"/><text x="490" y="182" class="middle">x</text>'
        '<text x="508" y="94" class="quiet">in</text></svg>'
    )


def draw_question(question: Question, revealed: bool) -> None:
    """The exercise: the product is covered until the prediction is made."""
    asked = question.draw
    pick = tuple(asked["pick"])
    of_b, of_a = ([place] if revealed else [] for place in parts(*pick))
    hide = None if revealed else (lambda i, j: True)
    line = [
        board.matrix("B", "B", np.array(asked["B"]), "b", marked=of_b),
        board.sign("⊗"),
        board.matrix("A", "A", np.array(asked["A"]), "a", marked=of_a),
    ]
    answer = board.matrix("K", "B ⊗ A", kron(asked), "k", block=A_SHAPE, marked=[pick], cover=hide)
    board.show([line, [board.sign("="), answer]], f"c1_question_{int(revealed)}", on_edit=None, on_pick=None)


def _costs(n: int) -> None:
    charts.show(cost_lines(n), "c1_cost", "Multiplications and stored numbers by the size of the layer")
    found = cost(n)
    rows = (
        ("Multiplications, full", found.full, "full"),
        ("Multiplications, factored", found.multiplications, "kron"),
        ("Numbers stored, full", found.full, "full"),
        ("Numbers stored, factored", found.numbers, "kron"),
    )
    widgets.html_block(bars_html([(label, value, formatting.count(value), css) for label, value, css in rows]))
    widgets.caption(
        f"One vector through a layer of {n:,} × {n:,}: the factored form needs "
        f"{formatting.percent(found.multiplications / found.full)} of the multiplications and "
        f"{formatting.percent(found.numbers / found.full)} of the numbers. Counted by cdka.Components(2, 8, 1)."
    )


def cost_lines(n: int) -> go.Figure:
    """Multiplications, full and factored, for every size, on logarithmic axes; a ring marks the present size."""
    found = [cost(size) for size in SIZES]
    data, names, here, end = [], [], SIZES.index(n), float(np.log10(SIZES[-1]))
    for name, colour, dash, symbol, counts in (
        ("full: n · n", theme.LORA, "dash", "square", [c.full for c in found]),
        ("factored: 10 n", theme.R, "solid", "circle", [c.multiplications for c in found]),
    ):
        curve = {
            "x": np.array(SIZES, dtype=np.float32),
            "y": np.array(counts, dtype=np.float32),
            "mode": "lines+markers",
            "name": name,
            "line": {"color": colour, "dash": dash, "width": 2.5},
            "marker": {"symbol": symbol, "size": 9},
            "hovertemplate": f"{name} at n = %{{x}}: %{{y:,.0f}}<extra></extra>",
        }
        data += [curve, charts.ring(n, counts[here])]
        names.append(charts.label(end, float(np.log10(counts[-1])), name, xanchor="left", xshift=12))
    return charts.plotly(
        f"At n = {n:,}, {cost(n).full / cost(n).multiplications:.3g} times fewer multiplications",
        "size n of the layer",
        "multiplications for one vector",
        data,
        height=330,
        annotations=names,
        xaxis={
            "type": "log",
            "tickvals": SIZES,
            "ticktext": [f"{size:,}" for size in SIZES],
            "range": [1.1, end + 0.55],
        },
        yaxis={"type": "log", "range": [1.8, 7.6], "dtick": 1, "tickformat": "~s"},
    )
