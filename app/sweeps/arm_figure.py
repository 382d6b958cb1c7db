"""The arms of a plan, drawn and tabled: what each costs, and how far it is from the budget."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from app import charts, theme
from cdka import formatting
from cdka.components import Components
from cdka.cost.adapter import fitted_components
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.spec import RunSpec
from cdka.sweep.plan import Arm, Plan, mismatch
from cdka.theory.alignment import combine

MAX_ROWS = 24
"""More arms than this are drawn without a name each."""
ROW, FRAME = 24, 120
"""Pixels of an arm's row, and of everything around the rows: Streamlit fits title and axis into the height given."""
SHAPES = {"cdka": "circle", "lora": "square", "lokr": "diamond", "dora": "cross", "full": "triangle-up"}


def budget_of(plan: Plan) -> int | None:
    """The parameters that the arms are held against: the budget given, else what the baselines were matched to; None
    where each price has a baseline of its own."""
    matched = {arm.matched.budget for arm in plan.arms if arm.matched is not None}
    return plan.document.get("budget") or (matched.pop() if len(matched) == 1 else None)


def table(plan: Plan) -> pd.DataFrame:
    """One row per arm: label, method, parameters, share of the model, mismatch with the budget, alignment, lr, alpha.

    ``mismatch`` is relative to a budget that was given, else, for baselines, to the arm they were matched to; missing
    for full fine-tuning, which has no size to match. ``alignment`` is the predicted one over the adapted layers,
    missing for other methods than CDKA and LoRA.
    """
    given = plan.document.get("budget")
    varied = [name for name in ("lr", "alpha") if len({getattr(arm.spec, name) for arm in plan.arms}) > 1]
    rows = []
    for arm in plan.arms:
        spec = arm.spec
        gap = mismatch(arm, given)
        rows.append(
            {
                "arm": _label(spec, varied),
                "method": spec.method,
                "num_params": arm.num_params,
                "share": arm.num_params / find_model(spec.model).base_params,
                "mismatch": math.nan if gap is None else gap,
                "alignment": _alignment(spec),
                "lr": _rate(arm),
                "alpha": spec.alpha,
            }
        )
    return pd.DataFrame(rows)


def _rate(arm: Arm) -> str:
    return "searched" if arm.tuned else f"{arm.spec.lr:g}" + (", not tuned" if arm.tuned is False else "")


def _label(spec: RunSpec, varied: Sequence[str]) -> str:
    pieces = [spec.label]
    if spec.method == "lora" and spec.scaling_rule == "r":
        pieces.append("plain")
    pieces += [f"{name} {getattr(spec, name):g}" for name in varied]
    return " · ".join(pieces)


def _alignment(spec: RunSpec) -> float:
    if spec.method not in ("cdka", "lora") or spec.component_pattern:
        return math.nan
    components = spec.components or Components(1, 1, spec.rank or 1)
    layers = select(find_model(spec.model), spec.target_modules)
    placed = fitted_components(layers, components, spec.indivisible)
    return combine(0.0 if own is None else own.alignment(s.in_features) for s, own in placed for _ in range(s.count))


def chart(rows: pd.DataFrame, budget: int | None, word: str = "budget") -> Any:
    """Parameters of every arm on a log axis, the budget as a line; colour and shape tell the method."""
    rows = rows.sort_values(["num_params", "arm"], kind="stable").reset_index(drop=True)
    rows = rows.assign(place=rows.index.astype(str), label=rows["num_params"].map(formatting.count))
    named = len(rows) <= MAX_ROWS
    order = rows["place"].tolist()
    methods = list(dict.fromkeys(rows["method"]))
    low, high = rows["num_params"].min(), rows["num_params"].max()
    low, high = min(low, budget or low), max(high, budget or high)
    edge = (high / low) ** 0.06 * 1.12
    x = alt.X(
        "num_params:Q",
        title="trainable parameters",
        scale=alt.Scale(type="log", domain=[low / edge, high * edge * (high / low) ** 0.08 * 1.1], nice=False),
        axis=alt.Axis(format="~s", tickCount=5),
    )
    names = dict(zip(rows["place"], rows["arm"], strict=True))
    y = alt.Y(
        "place:O",
        sort=order,
        title=None if named else f"{len(rows)} arms by size",
        axis=alt.Axis(labelExpr=f"{json.dumps(names)}[datum.value]", labelLimit=240, ticks=False) if named else None,
    )
    base = alt.Chart(rows).encode(
        x=x,
        y=y,
        tooltip=[
            "arm:N",
            alt.Tooltip("num_params:Q", title="parameters", format=","),
            alt.Tooltip("mismatch:Q", title="against the budget", format="+.1%"),
            alt.Tooltip("alignment:Q", title="predicted alignment", format=".3f"),
        ],
    )
    colours = [charts.method_colour(method) for method in methods]
    marks = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=alt.Color("method:N", scale=alt.Scale(domain=methods, range=colours), legend=None),
        shape=alt.Shape("method:N", scale=alt.Scale(domain=methods, range=[SHAPES[m] for m in methods]), legend=None),
    )
    layers = [marks]
    if named:
        beside = {"align": "left", "dx": 9, "fontSize": 11}
        halo = base.mark_text(**beside, stroke=theme.current().paper, strokeWidth=4).encode(text="label:N")
        layers += [halo, base.mark_text(**beside, color=theme.ink()).encode(text="label:N")]
    if budget is not None:
        line = alt.Chart(pd.DataFrame({"num_params": [budget], "label": [f"{word} {formatting.count(budget)}"]}))
        layers.insert(0, line.mark_rule(strokeDash=[5, 4], color=theme.accent()).encode(x="num_params:Q"))
        layers.append(
            line.mark_text(baseline="bottom", dy=-3, color=theme.accent()).encode(
                x="num_params:Q", y=alt.value(0), text="label:N"
            )
        )
    height = FRAME + (ROW * len(rows) if named else 200)
    return charts.altair(alt.layer(*layers), title(rows), height=height)


def title(rows: pd.DataFrame) -> str:
    """Caption of the figure, in one line."""
    low, high = formatting.count(rows["num_params"].min()), formatting.count(rows["num_params"].max())
    span = f"of {low} parameters" if low == high else f"from {low} to {high} parameters"
    return f"{formatting.plural(len(rows), 'arm')} {span}"
