"""Chapter 3, counting: its text and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn.counting.figures import MODELS, RANGE, bill, cover, first_layer, layers, stage
from app.learn.course import OURS, PAPER, Chapter, Control, Equation, Page, Question, Try, Values
from app.learn.markup import number
from cdka.components import Components
from cdka.cost.adapter import num_params
from cdka.models.catalogue import find_model

CONTROLS = (
    Control(3, "model", "Model", "select", MODELS[0], MODELS),
    Control(3, "r1", "r1", "slider", 2, RANGE),
    Control(3, "r2", "r2", "slider", 8, RANGE),
    Control(3, "r", "r", "slider", 4, (1, 2, 4, 8, 16), views=("count", "bill")),
)


def _c(v: Values) -> Components:
    return Components(v["r1"], v["r2"], v["r"])


def _code(v: Values, last: str) -> str:
    return (
        f"model = find_model({v['model']!r})\nlayers = select(model, 'all-linear')\n"
        f"c = Components({v['r1']}, {v['r2']}, {v['r']})\n{last}"
    )


def _two_terms(v: Values) -> str:
    layer, c = first_layer(v["model"]), _c(v)
    out, in_ = layer.out_features, layer.in_features
    return (
        rf"\begin{{aligned}}\text{{{layer.name.replace('_', '-')}}}:\quad &<r:{c.r}>\left(<r2:{c.r2}"
        rf">\cdot\tfrac{{{number(out)}}}{{<r1:{c.r1}>}}"
        rf"+<r1:{c.r1}>\cdot\tfrac{{{number(in_)}}}{{<r2:{c.r2}>}}\right)\\ &={number(c.num_params(out, in_))}"
        rf"\end{{aligned}}"
    )


def _minimum(v: Values) -> str:
    layer = first_layer(v["model"])
    best = (layer.out_features / layer.in_features) ** 0.5
    return (
        rf"\frac{{<r1>}}{{<r2>}}=\sqrt{{\frac{{{number(layer.out_features)}}}{{{number(layer.in_features)}}}}}"
        rf"={best:.3g}"
        rf"\quad\text{{you have }}\frac{{<r1:{v['r1']}>}}{{<r2:{v['r2']}>}}={v['r1'] / v['r2']:.3g}"
    )


def _flops(v: Values) -> str:
    layer, c = first_layer(v["model"]), _c(v)
    out, in_ = layer.out_features, layer.in_features
    return (
        rf"2\cdot{number(in_)}\cdot<r:{c.r}>\cdot<r1:{c.r1}>+2\cdot{number(out)}\cdot<r:{c.r}>\cdot<r2:{c.r2}>"
        rf"={number(c.flops_per_token(out, in_))}"
    )


PAGES = (
    Page(
        title="Two parts, added",
        text="""
A layer has [[num_params|trainable parameters]] in two parts: the $B_i$ and the $A_i$. The adapter of a model is
the sum over all its [[target modules]], here every linear layer but the head. ((paper: the count, and which
layers))

The bars show both parts for every `r1`, with `r2` and `r` as you set them. Yours is the bar with the frame.

**Choose a model**; the numbers are those of its real layers.
""",
        code=lambda v: _code(v, "num_params(layers, c), num_params(layers, c) / model.base_params"),
        source=PAPER,
        focus=("model", "r"),
        equation=Equation(
            r"<r>\Big(\underbrace{<r2>\tfrac{\text{out}}{<r1>}}_{B}+\underbrace{<r1>\tfrac{\text{in}}{<r2>}}_{A}\Big)",
            _two_terms,
        ),
        view="count",
    ),
    Page(
        title="A bigger factor, fewer parameters",
        text="""
This puzzles everyone who meets Kronecker adapters. Start at `r1` = 1 with `r2` = 8 and **move `r1` up**: the
count goes *down*, by a factor of four, before it goes up again.

The reason stands in the bars. `r1` divides the B part and multiplies the A part. The count is smallest where
the two are equal, which on a square layer is `r1` = `r2`. ((ours: the minimum of the count)) Away from there,
the longer part is all that matters.

So a small count is easy to have. What it is good for is chapter 4.
""",
        code=lambda v: _code(
            v,
            "for r1 in (1, 2, 4, 8, 16, 32):\n    d = Components(r1, c.r2, c.r)\n"
            "    if not any(d.problems(s.out_features, s.in_features) for s in layers):\n        print(r1, "
            "num_params(layers, d))",
        ),
        source=OURS,
        focus=("r1",),
        equation=Equation(r"\text{smallest at}\quad\frac{<r1>}{<r2>}=\sqrt{\frac{\text{out}}{\text{in}}}", _minimum),
        tries=(
            Try("r1 = 1", {"r1": 1, "r2": 8}),
            Try("r1 = 8", {"r1": 8, "r2": 8}),
            Try("r1 = 64", {"r1": 64, "r2": 8}),
        ),
        view="count",
    ),
    Page(
        title="Only the ratio counts",
        text="""
In the formula `r1` and `r2` occur only as `r2`/`r1`. So (1, 4), (2, 8) and (4, 16) cost **exactly the same**.
((ours: num_params)) On the map they lie on a diagonal; dashed frames mark what costs the same as yours.

Rank does not know that: it grows with `r1` · `r2`, sixteen times from the first to the last. This is how CDKA
reaches a high rank for the price of a low one. ((ours: rank_bound)) The paper's choice is (2, 8). ((paper: its
default, with r = 4))

**Walk along the diagonal.**
""",
        code=lambda v: _code(
            v,
            "first = layers[0]\nfor k in (1, 2, 4):\n    d = Components(k, 4 * k, c.r)\n"
            "    print(d, num_params(layers, d), d.rank_bound(first.out_features, first.in_features))",
        ),
        source=OURS,
        focus=("r1", "r2"),
        equation=Equation(
            r"<r>\left(\text{out}\cdot\tfrac{<r2>}{<r1>}+\text{in}\cdot\tfrac{<r1>}{<r2>}\right)",
            lambda v: rf"\frac{{<r2>}}{{<r1>}}=\frac{{<r2:{v['r2']}>}}{{<r1:{v['r1']}>}}={v['r2'] / v['r1']:g}",
        ),
        tries=(
            Try("1, 4", {"r1": 1, "r2": 4}),
            Try("2, 8", {"r1": 2, "r2": 8}),
            Try("4, 16", {"r1": 4, "r2": 16}),
        ),
        view="map",
    ),
    Page(
        title="The bill: memory and time",
        text="""
Parameters are not the whole bill. While training, each one needs 16 bytes: itself, its gradient and AdamW's two
moments, each in 32 bits. ((ours: TRAINING_BYTES_PER_PARAM)) That is little beside the frozen model, which every
method has to hold.

[[FLOPs]] follow another formula: there `r1` and `r2` **both** multiply. (4, 16) costs as many parameters as (1,
4) and four times the arithmetic. ((ours: flops_per_token)) It stays small beside the model's own, but it is not
nothing, and many small multiplications take longer than their count says. ((ours: measured by cdka bench layer))
""",
        code=lambda v: _code(
            v,
            "flops_per_token(layers, c) / forward_flops_per_token(model), "
            "adapter_bytes(layers, num_params(layers, c)), TRAINING_BYTES_PER_PARAM * num_params(layers, c)",
        ),
        source=OURS,
        focus=("r1", "r2", "r"),
        equation=Equation(r"\text{FLOPs per token}=2\,\text{in}\,<r>\,<r1>+2\,\text{out}\,<r>\,<r2>", _flops),
        tries=(Try("1, 4, 4", {"r1": 1, "r2": 4, "r": 4}), Try("4, 16, 4", {"r1": 4, "r2": 16, "r": 4})),
        view="bill",
    ),
)


def ask(seed: int, values: Values) -> Question:
    """How many parameters has a configuration, told what LoRA costs on the same layers?"""
    rng = np.random.default_rng([seed, 3])
    large = [name for name in MODELS if not find_model(name).embedded]
    model = large[int(rng.integers(len(large)))]
    c = Components(
        *(int(n) for n in ((2, 8, 4), (4, 4, 8), (1, 8, 2), (8, 8, 4), (4, 16, 2), (8, 2, 4))[rng.integers(6)])
    )
    chosen, rank = layers(model), 8
    lora = num_params(chosen, Components(1, 1, rank))

    def explain(answer: float) -> str:
        ratio, inverse = c.r2 / c.r1, c.r1 / c.r2
        return (
            f"LoRA pays out + in for each of its {rank}; this pays {ratio:g} · out + {inverse:g} · in for each "
            f"of its {c.r}. "
            f"On a square layer that is {c.r} · {ratio + inverse:g} = {c.r * (ratio + inverse):g} instead of "
            f"{2 * rank}; the layers of this model are not all square, so that is only near. "
            f"Exactly: **{answer:.4g} million** against LoRA's {lora / 1e6:.4g}. Bill: {bill(model, c).sentence}"
        )

    return Question(
        prompt=(
            f"On **{model}**, LoRA of rank {rank} on all linear layers trains **{lora / 1e6:.2f} million** parameters. "
            f"How many millions does `r1` = {c.r1}, `r2` = {c.r2}, `r` = {c.r} train on the same layers?"
        ),
        answer=lambda: num_params(chosen, c) / 1e6,
        explain=explain,
        code=(
            f"layers = select(find_model({model!r}), 'all-linear')\n"
            f"answer = num_params(layers, Components{c.as_tuple()}) / 1e6\nanswer"
        ),
        unit="million",
        whole=False,
        high=1e4,
        draw={"model": model, "r1": c.r1, "r2": c.r2, "r": c.r, "rank": rank},
    )


CHAPTER = Chapter(
    number=3,
    short="Counting",
    title="Counting on a real model",
    idea="Parameters depend on the ratio of r2 to r1, arithmetic on both, and rank on their product.",
    minutes=7,
    controls=CONTROLS,
    pages=PAGES,
    stage=stage,
    ask=ask,
    cover=cover,
    setup=(
        "from cdka import Components\nfrom cdka.cost.adapter import (\n    TRAINING_BYTES_PER_PARAM, adapter_bytes, "
        "flops_per_token, "
        "forward_flops_per_token, num_params,\n)\nfrom cdka.models.catalogue import find_model\nfrom "
        "cdka.models.targets import select"
    ),
    finish="You can price any configuration. Next: what makes one better than another of the same price.",
)
