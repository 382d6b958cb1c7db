"""Chapter 3, counting: its pages and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn import prose
from app.learn.counting.figures import MODELS, RANGE, bill, draw, draw_question, first_layer, layers
from app.learn.course import CODE, OURS, Chapter, Control, Equation, Question, Try, Values, page
from app.learn.markup import number
from cdka.components import Components
from cdka.cost.adapter import num_params
from cdka.models.catalogue import find_model

TEXT = prose.read(__file__)

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
    page(
        TEXT,
        "parts",
        code=lambda v: _code(v, "num_params(layers, c), num_params(layers, c) / model.base_params"),
        plot=lambda v: (
            "shapes = [(s.count, *c.shapes(s.out_features, s.in_features)) for s in layers]\n"
            "in_a = sum(n * a[0] * a[1] * a[2] for n, a, b in shapes)\n"
            "in_b = sum(n * b[0] * b[1] * b[2] for n, a, b in shapes)\n"
            "bars('Trainable parameters', {'B part': in_b, 'A part': in_a})"
        ),
        source=CODE,
        focus=("model", "r"),
        equation=Equation(
            r"<r>\Big(\underbrace{<r2>\tfrac{\text{out}}{<r1>}}_{B}+\underbrace{<r1>\tfrac{\text{in}}{<r2>}}_{A}\Big)",
            _two_terms,
        ),
        view="count",
    ),
    page(
        TEXT,
        "bigger",
        code=lambda v: _code(
            v,
            "counts = {}\nfor r1 in (1, 2, 4, 8, 16, 32):\n    d = Components(r1, c.r2, c.r)\n"
            "    if not any(d.problems(s.out_features, s.in_features) for s in layers):\n"
            "        counts[f'r1 = {r1}'] = num_params(layers, d)\ncounts",
        ),
        plot=lambda v: "bars('Parameters by r1', counts)",
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
    page(
        TEXT,
        "ratio",
        code=lambda v: _code(
            v,
            "first, ranks = layers[0], {}\nfor k in (1, 2, 4):\n    d = Components(k, 4 * k, c.r)\n"
            "    ranks[str(d)] = d.rank_bound(first.out_features, first.in_features)\n"
            "    print(d, num_params(layers, d), ranks[str(d)])",
        ),
        plot=lambda v: "bars('Rank bound of the first layer, at one price', ranks)",
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
    page(
        TEXT,
        "bill",
        code=lambda v: _code(
            v,
            "more = flops_per_token(layers, c) / forward_flops_per_token(model)\n"
            "more, adapter_bytes(layers, num_params(layers, c)), TRAINING_BYTES_PER_PARAM * num_params(layers, c)",
        ),
        plot=lambda v: (
            "bars('Arithmetic per token, forward', {'the model': forward_flops_per_token(model), "
            "'this adapter': flops_per_token(layers, c)})"
        ),
        source=OURS,
        focus=("r1", "r2", "r"),
        equation=Equation(r"\text{FLOPs per token}=2\,\text{in}\,<r>\,<r1>+2\,\text{out}\,<r>\,<r2>", _flops),
        tries=(
            Try("1, 4, 4 on llama-2-7b", {"r1": 1, "r2": 4, "r": 4, "model": "llama-2-7b"}),
            Try("4, 16, 4 on llama-2-7b", {"r1": 4, "r2": 16, "r": 4, "model": "llama-2-7b"}),
            Try("4, 16, 4 on digits-vit", {"r1": 4, "r2": 16, "r": 4, "model": "digits-vit"}),
        ),
        view="bill",
    ),
)

_SETS = (
    (2, 8, 4),
    (4, 4, 8),
    (1, 8, 2),
    (8, 8, 4),
    (4, 16, 2),
    (8, 2, 4),
    (2, 4, 4),
    (16, 16, 2),
    (1, 4, 8),
    (4, 32, 1),
    (16, 4, 2),
    (2, 2, 6),
)
"""The configurations that are asked for."""


def question(seed: int, values: Values) -> Question:
    """The parameters of a configuration, given those of LoRA on the same layers."""
    rng = np.random.default_rng([seed, 3])
    large = [name for name in MODELS if not find_model(name).embedded]
    model = large[int(rng.integers(len(large)))]
    c = Components(*_SETS[int(rng.integers(len(_SETS)))])
    rank = (4, 8, 16)[int(rng.integers(3))]
    chosen = layers(model)
    lora = num_params(chosen, Components(1, 1, rank))
    ratio, inverse = c.r2 / c.r1, c.r1 / c.r2

    def explain(answer: float) -> str:
        return TEXT.part(
            "explanation",
            rank=rank,
            r=c.r,
            ratio=f"{ratio:g}",
            inverse=f"{inverse:g}",
            mine=f"{c.r} · {ratio + inverse:g} = {c.r * (ratio + inverse):g}",
            theirs=2 * rank,
            answer=f"{answer:.4g}",
            lora=f"{lora / 1e6:.4g}",
            bill=bill(model, c).sentence,
        )

    def hint(prediction: float, answer: float) -> str:
        def near(count: float) -> bool:
            return abs(prediction - count / 1e6) <= 0.06 * count / 1e6

        if near(lora / rank * c.r):
            return TEXT.part("hint: rank")
        return TEXT.part("hint: product" if near(lora / rank * c.r * c.r1 * c.r2) else "hint: other")

    return Question(
        prompt=TEXT.part("question", model=model, rank=rank, lora=f"{lora / 1e6:.2f}", r1=c.r1, r2=c.r2, r=c.r),
        answer=lambda: num_params(chosen, c) / 1e6,
        explain=explain,
        hint=hint,
        code=(
            f"layers = select(find_model({model!r}), 'all-linear')\n"
            f"answer = num_params(layers, Components{c.as_tuple()}) / 1e6\nanswer"
        ),
        unit="million",
        whole=False,
        high=1e4,
        draw={"model": model, "r1": c.r1, "r2": c.r2, "r": c.r, "rank": rank},
    )


SETUP = (
    "from cdka import Components\nfrom cdka.cost.adapter import (\n    TRAINING_BYTES_PER_PARAM, adapter_bytes, "
    "flops_per_token, "
    "forward_flops_per_token, num_params,\n)\nfrom cdka.models.catalogue import find_model\nfrom "
    "cdka.models.targets import select"
)
CHAPTER = Chapter(3, "Counting", TEXT, 7, CONTROLS, PAGES, draw, question, draw_question, SETUP)
