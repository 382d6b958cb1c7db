"""The figures of chapter 3: the two parts of the count, the map of counts, the bill."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import charts, theme, widgets
from app.learn.course import Page, Question
from app.learn.drawing import Bar, bars_html
from cdka import formatting
from cdka.components import Components
from cdka.cost import adapter as cost
from cdka.models.catalogue import find_model
from cdka.models.shapes import LinearShape
from cdka.models.targets import select

MODELS = ("llama-2-7b", "t5-base", "qwen2.5-0.5b", "vit-base", "bert-base", "digits-vit")
"""Models all of whose linear layers are divisible by every value of RANGE."""
RANGE = (1, 2, 4, 8, 16, 32, 64)
BFLOAT16_BYTES = 2


@lru_cache(maxsize=16)
def layers(model: str) -> tuple[LinearShape, ...]:
    """All linear layers of a model but the head."""
    return select(find_model(model), "all-linear")


def first_layer(model: str) -> LinearShape:
    """The layer that the equations are filled with."""
    return layers(model)[0]


def split(model: str, c: Components) -> tuple[int, int]:
    """Parameters in the B_i and in the A_i, over all layers; from the shapes that Components gives."""
    in_b = in_a = 0
    for layer in layers(model):
        a, b = c.shapes(layer.out_features, layer.in_features)
        in_b += layer.count * int(np.prod(b))
        in_a += layer.count * int(np.prod(a))
    return in_b, in_a


@dataclass(frozen=True)
class Bill:
    """The cost of training beside the activations. ``flops`` are per token."""

    params: int
    training_bytes: int
    file_bytes: int
    flops: int
    base_params: int
    base_bytes: int
    base_flops: int
    full_training_bytes: int

    @property
    def sentence(self) -> str:
        """The bill in one line."""
        return (
            f"{formatting.size(self.training_bytes)} to train, {formatting.percent(self.flops / self.base_flops)} more "
            f"arithmetic "
            "in the forward pass."
        )


def bill(model: str, c: Components) -> Bill:
    """The bill of one configuration on one model."""
    shapes, chosen = find_model(model), layers(model)
    params = cost.num_params(chosen, c)
    return Bill(
        params=params,
        training_bytes=cost.TRAINING_BYTES_PER_PARAM * params,
        file_bytes=cost.adapter_bytes(chosen, params),
        flops=cost.flops_per_token(chosen, c),
        base_params=shapes.base_params,
        base_bytes=BFLOAT16_BYTES * shapes.base_params,
        base_flops=cost.forward_flops_per_token(shapes),
        full_training_bytes=cost.TRAINING_BYTES_PER_PARAM * cost.full_params(chosen),
    )


def draw(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    c = Components(values["r1"], values["r2"], values["r"])
    model = values["model"]
    if page.view == "bill":
        _show_bill(model, c)
    elif page.view == "map":
        widgets.html_block(count_map(model, c))
    else:
        charts.show(count_bars(model, c), "c3_bars", "Parameters in B and in A for every r1")
    _facts(model, c)


def _facts(model: str, c: Components) -> None:
    params, base = cost.num_params(layers(model), c), find_model(model).base_params
    widgets.html_block(
        f"{widgets.chip_html(c)} {widgets.count_html(params, 'parameters')} · "
        f"{formatting.percent(params / base)} of {model} "
        f'<span class="cdka-quiet">(LoRA of rank {c.r}: '
        f"{formatting.count(cost.num_params(layers(model), Components(1, 1, c.r)))})</span>"
    )
    widgets.caption(
        f"{cost.num_modules(layers(model))} layers of {model} ({formatting.count(base)} parameters), shapes from its "
        f"published "
        "configuration; counted by cdka.cost.adapter."
    )


def count_bars(model: str, c: Components) -> go.Figure:
    """B part and A part for every r1, at the present r2 and r."""
    counts = np.array([split(model, Components(r1, c.r2, c.r)) for r1 in RANGE], dtype=np.float32)
    totals = [float(total) for total in counts.sum(axis=1)]
    data = [
        {
            "type": "bar",
            "x": [str(r1) for r1 in RANGE],
            "y": counts[:, column],
            "name": f"{name} part",
            "marker": {"color": colour, "pattern": {"shape": pattern}},
            "hovertemplate": f"r1 %{{x}}: %{{y:,.0f}} parameters in the {name}<sub>i</sub><extra></extra>",
        }
        for column, (name, colour, pattern) in enumerate((("B", theme.R2, ""), ("A", theme.R1, "/")))
    ]
    mine = RANGE.index(c.r1)
    texts = [formatting.count(total) for total in totals]
    texts[mine] = f"<b>{texts[mine]}</b>"
    frame = {"type": "rect", "x0": mine - 0.46, "x1": mine + 0.46, "y0": 0, "y1": totals[mine]}
    return charts.plotly(
        f"At r2 = {c.r2}, r = {c.r}: which r1 costs least?",
        "r1",
        "parameters",
        data,
        height=480,
        barmode="stack",
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "x": 1, "xanchor": "right", "yanchor": "bottom"},
        annotations=[charts.label(at, totals[at], text, yshift=10) for at, text in enumerate(texts)],
        shapes=[{**frame, "line": {"color": theme.ink(), "width": 2.5}}],
        xaxis={"type": "category"},
        yaxis={"range": [0, max(totals) * 1.12], "tickformat": "~s"},
    )


def count_map(model: str, c: Components) -> str:
    """Parameters and reachable rank for every pair (r1, r2) at the present r, as a table; equal prices are marked."""
    layer = first_layer(model)
    mine = cost.num_params(layers(model), c)
    most = np.log2(max(cost.num_params(layers(model), Components(*pair, c.r)) for pair in ((1, 64), (64, 1))))
    least = np.log2(cost.num_params(layers(model), Components(1, 1, c.r)))
    rows = []
    for r2 in reversed(RANGE):
        cells = []
        for r1 in RANGE:
            pair = Components(r1, r2, c.r)
            params = cost.num_params(layers(model), pair)
            strength = 8 + 47 * (np.log2(params) - least) / (most - least)
            mark = "mine" if pair == c else "same" if params == mine else ""
            rank = pair.rank_bound(layer.out_features, layer.in_features)
            cells.append(
                f'<td class="{mark}" style="--w:{strength:.0f}%"><b>{formatting.count(params)}</b><br>rank {rank:,}'
                "</td>"
            )
        rows.append(f'<tr><th scope="row"><span class="cdka-letter r2">r2</span> {r2}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col"><span class="cdka-letter r1">r1</span> {r1}</th>' for r1 in RANGE)
    return (
        f'<div class="learn-map"><table><caption>Parameters of all of {model}; beneath, the rank that its '
        f"{html.escape(layer.name)} can reach, at r = {c.r}. Full frame: yours; dashed: the same "
        f"price.</caption><tbody>{''.join(rows)}</tbody><tfoot><tr><td></td>{head}"
        f"</tr></tfoot></table></div>"
    )


def _show_bill(model: str, c: Components) -> None:
    found = bill(model, c)
    st.markdown("**Memory, beside the activations**")
    widgets.html_block(
        bars_html(
            [
                ("Frozen model (bfloat16)", found.base_bytes, formatting.size(found.base_bytes), "full"),
                ("Training this adapter", found.training_bytes, formatting.size(found.training_bytes), "kron"),
                (
                    "Training these layers in full",
                    found.full_training_bytes,
                    formatting.size(found.full_training_bytes),
                    "full",
                ),
            ]
        )
    )
    st.markdown("**Arithmetic per token, forward**")
    widgets.html_block(
        bars_html(
            [
                ("The model's own", found.base_flops, f"{formatting.count(found.base_flops)} FLOPs", "full"),
                ("This adapter", found.flops, f"{formatting.count(found.flops)} FLOPs", "kron"),
            ]
        )
    )
    st.markdown(f"The saved adapter is a file of at most **{formatting.size(found.file_bytes)}**.")


def draw_question(question: Question, revealed: bool) -> None:
    """The exercise: the known count as a bar; the asked one appears when predicted."""
    draw = question.draw
    chosen, c = layers(draw["model"]), Components(draw["r1"], draw["r2"], draw["r"])
    lora, mine = cost.num_params(chosen, Components(1, 1, draw["rank"])), cost.num_params(chosen, c)
    shapes = {(s.out_features, s.in_features): 0 for s in chosen}
    for s in chosen:
        shapes[s.out_features, s.in_features] += s.count
    table = "".join(f"<tr><td>{out:,} × {in_:,}</td><td>{n}</td></tr>" for (out, in_), n in shapes.items())
    widgets.html_block(
        f'<div class="learn-question">{widgets.chip_html(c)}<table><thead><tr><th>out × '
        f"in</th><th>layers</th></tr></thead>"
        f"<tbody>{table}</tbody></table></div>"
    )
    rows: list[Bar] = [(f"LoRA, rank {draw['rank']}", lora, formatting.count(lora), "full")]
    rows.append(("This one", mine, formatting.count(mine), "kron") if revealed else ("This one", 0.0, "?", "kron"))
    widgets.html_block(bars_html(rows))
