"""Chapter 2, from LoRA to CDKA: its pages and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn import prose
from app.learn.course import CODE, OURS, TEXTBOOK, Chapter, Control, Equation, Question, Try, Values, page, seed_control
from app.learn.lora.figures import FREE, IN, OUT, PATTERN, draw, draw_question, measured_rank
from cdka.components import Components

TEXT = prose.read(__file__)
DIMENSIONS = (1, 2, 4, 8, 16)

_SHAPING = ("matrix", "press", "spectrum")

CONTROLS = (
    Control(
        2,
        "r1",
        "r1: cuts the output",
        "slider",
        1,
        DIMENSIONS,
        views=_SHAPING,
        help="Divides out_features. Rows of each A_i.",
    ),
    Control(
        2,
        "r2",
        "r2: cuts the input",
        "slider",
        1,
        DIMENSIONS,
        views=_SHAPING,
        help="Divides in_features. Columns of each B_i.",
    ),
    Control(
        2,
        "r",
        "r: components summed",
        "slider",
        4,
        (1, 2, 3, 4, 6, 8),
        views=("matrix", "spectrum"),
        help="The number of products that are added up.",
    ),
    Control(2, "u1", "r1", "slider", 2, (1, 2, 4, 8), views=("pattern",)),
    Control(2, "u2", "r2", "slider", 4, (1, 2, 4, 8), views=("pattern",)),
    Control(2, "ur", "r", "slider", 2, (1, 2, 4), views=("pattern",)),
    Control(2, "show", "U and V", "buttons", PATTERN, (FREE, PATTERN), views=("pattern",)),
    seed_control(2, ("matrix", "spectrum")),
)


def _c(v: Values) -> Components:
    return Components(v["r1"], v["r2"], v["r"])


def _draw(v: Values) -> str:
    return (
        f"c = Components({v['r1']}, {v['r2']}, {v['r']})\nrng = np.random.default_rng({v['seed']})\n"
        "A = kaiming_components(c, in_features, rng)\nB = rng.standard_normal(c.shapes(out_features, in_features)[1])\n"
        "delta = delta_weight(A, B, c.scaling(alpha=1.0))\n"
    )


def _params(v: Values) -> str:
    c = _c(v)
    return (
        rf"<r:{c.r}>\left(<r2:{c.r2}>\cdot\tfrac{{{OUT}}}{{<r1:{c.r1}>}}+<r1:{c.r1}>\cdot\tfrac{{{IN}}}"
        rf"{{<r2:{c.r2}>}}\right)"
        rf"={c.num_params(OUT, IN)}"
    )


def _rank(v: Values) -> str:
    c = _c(v)
    return (
        rf"\min\left({OUT},{IN},<r:{c.r}>\min({OUT // c.r1},<r2:{c.r2}>)\min(<r1:{c.r1}>,{IN // c.r2})\right)"
        rf"\\ ={c.rank_bound(OUT, IN)}"
    )


_SHAPES = Equation(
    r"B_i:\ \tfrac{\text{out}}{<r1>}\times <r2>\qquad A_i:\ <r1>\times\tfrac{\text{in}}{<r2>}",
    lambda v: rf"B_i:\ {OUT // v['r1']}\times <r2:{v['r2']}>\qquad A_i:\ <r1:{v['r1']}>\times {IN // v['r2']}",
)
_SPECTRUM = "lines('Singular values of ΔW', {'this adapter': singular_values(delta)})"

PAGES = (
    page(
        TEXT,
        "lora",
        code=lambda v: (
            _draw({**v, "r1": 1, "r2": 1}) + "lora = c.scaling(1.0) * B[:, :, 0].T @ A[:, 0, :]  # tall times wide\n"
            "assert np.allclose(delta, lora)\ndelta.shape"
        ),
        plot=lambda v: "heat('ΔW of LoRA', delta)",
        source=OURS,
        focus=("r",),
        equation=Equation(
            r"\Delta W=\text{scaling}\sum_{i=1}^{<r>}B_i\otimes A_i",
            lambda v: (
                rf"\Delta W_{{{OUT}\times{IN}}}=\text{{scaling}}\sum_{{i=1}}^{{<r:{v['r']}>}}"
                rf"B_i^{{({OUT // v['r1']}\times <r2:{v['r2']}>)}}\otimes "
                rf"A_i^{{(<r1:{v['r1']}>\times {IN // v['r2']})}}"
            ),
        ),
        tries=(Try("Show LoRA of rank 4", {"r1": 1, "r2": 1, "r": 4}),),
        view="matrix",
    ),
    page(
        TEXT,
        "shapes",
        code=lambda v: _draw(v) + "A.shape, B.shape, delta.shape",
        plot=lambda v: "heat('ΔW: scaled copies of A_i, summed', delta)",
        source=CODE,
        focus=("r1", "r2"),
        equation=_SHAPES,
        tries=(Try("r2 alone", {"r1": 1, "r2": 8}), Try("r1 and r2", {"r1": 4, "r2": 8})),
        view="press",
    ),
    page(
        TEXT,
        "budget",
        code=lambda v: _draw(v) + "c.num_params(out_features, in_features), numerical_rank(delta)",
        plot=lambda v: _SPECTRUM,
        source=OURS,
        focus=("r1", "r2"),
        equation=Equation(r"<r>\left(<r2>\tfrac{\text{out}}{<r1>}+<r1>\tfrac{\text{in}}{<r2>}\right)", _params),
        tries=(
            Try("1, 1, 4: LoRA", {"r1": 1, "r2": 1, "r": 4}),
            Try("2, 2, 4", {"r1": 2, "r2": 2, "r": 4}),
            Try("4, 4, 4", {"r1": 4, "r2": 4, "r": 4}),
        ),
        view="spectrum",
    ),
    page(
        TEXT,
        "bound",
        code=lambda v: (
            _draw(v) + "assert numerical_rank(delta) == c.rank_bound(out_features, in_features)\n"
            "full = [d for d in (Components(a, b, k) for a in (1, 2, 4, 8, 16) for b in (1, 2, 4, 8, 16) "
            "for k in range(1, 9))\n        if d.rank_bound(out_features, in_features) == out_features]\n"
            "c.rank_bound(out_features, in_features), min(full, key=lambda d: d.num_params(out_features, in_features))"
        ),
        plot=lambda v: _SPECTRUM,
        source=OURS,
        focus=("r1", "r2", "r"),
        equation=Equation(
            r"\min\left(\text{out},\,\text{in},\,<r>\min(\tfrac{\text{out}}{<r1>},<r2>)\,\min(<r1>,"
            r"\tfrac{\text{in}}{<r2>})\right)",
            _rank,
        ),
        tries=(Try("2, 8, 4", {"r1": 2, "r2": 8, "r": 4}), Try("4, 16, 1", {"r1": 4, "r2": 16, "r": 1})),
        view="spectrum",
    ),
    page(
        TEXT,
        "pattern",
        code=lambda v: (
            _draw({**v, "r1": v["u1"], "r2": v["u2"], "r": v["ur"]})
            + "U = np.hstack([np.kron(b, np.eye(c.r1)) for b in B])\n"
            "V = np.vstack([np.kron(np.eye(c.r2), a) for a in A])\n"
            "assert np.allclose(c.scaling(1.0) * U @ V, delta)\n"
            "different = len(set(U[U != 0])) + len(set(V[V != 0]))\n"
            "U.shape, V.shape, different, c.num_params(out_features, in_features)"
        ),
        plot=lambda v: "heat('U: the numbers of B, repeated along diagonals', U)",
        source=TEXTBOOK,
        focus=("show", "u1", "u2"),
        equation=Equation(
            r"\Delta W\propto\underbrace{[\,\cdots\ B_i\otimes I\ \cdots\,]}_{U}"
            r"\underbrace{\begin{bmatrix}\vdots\\[-2pt]I\otimes A_i\\[-2pt]\vdots\end{bmatrix}}_{V}",
            lambda v: rf"R=<r:{v['ur']}>\cdot <r1:{v['u1']}>\cdot <r2:{v['u2']}>={v['ur'] * v['u1'] * v['u2']}",
        ),
        tries=(
            Try("LoRA: no pattern", {"u1": 1, "u2": 1, "ur": 4, "show": PATTERN}),
            Try("2, 4, 2", {"u1": 2, "u2": 4, "ur": 2, "show": PATTERN}),
            Try("Its free LoRA", {"u1": 2, "u2": 4, "ur": 2, "show": FREE}),
        ),
        view="pattern",
    ),
)


def _asked(seed: int) -> Components:
    """The configuration of a question: every second time one where a factor is too short for r r1 r2."""
    rng = np.random.default_rng([seed, 2])
    fitting = [Components(a, b, k) for a in DIMENSIONS for b in DIMENSIONS for k in (1, 2, 3, 4) if a * b > 1]
    plain = [c for c in fitting if c.rank_bound(OUT, IN) == c.r * c.r1 * c.r2]
    bounded = [c for c in fitting if c.rank_bound(OUT, IN) < c.r * c.r1 * c.r2]
    pool = bounded if rng.random() < 0.5 else plain
    return pool[int(rng.integers(len(pool)))]


def question(seed: int, values: Values) -> Question:
    """The rank of delta W, measured on random factors by singular values."""
    c = _asked(seed)
    (_, _, columns), (_, rows, _) = c.shapes(OUT, IN)
    rank_b, rank_a, layer = min(rows, c.r2), min(c.r1, columns), min(OUT, IN)
    naive = c.r * c.r1 * c.r2
    shape = {"r1": c.r1, "r2": c.r2, "r": c.r, "out": OUT, "in": IN}

    def explain(answer: float) -> str:
        return TEXT.part(
            "explanation",
            **shape,
            rows=rows,
            columns=columns,
            rank_b=rank_b,
            rank_a=rank_a,
            product=c.r * rank_b * rank_a,
            layer=layer,
            answer=f"{answer:.0f}",
        )

    def hint(prediction: float, answer: float) -> str:
        if prediction == naive:
            return TEXT.part("hint: naive", rows=rows, r2=c.r2)
        if prediction > layer:
            return TEXT.part("hint: layer", out=OUT, layer=layer, **{"in": IN})
        return TEXT.part("hint: count" if prediction == c.r else "hint: other")

    return Question(
        prompt=TEXT.part("question", **shape, params=f"{c.num_params(OUT, IN):,}", lora=f"{OUT + IN:,}"),
        answer=lambda: float(measured_rank(c, seed)),
        explain=explain,
        hint=hint,
        code=(
            f"c = Components{c.as_tuple()}\nrng = np.random.default_rng({seed})\n"
            "A = kaiming_components(c, in_features, rng)\n"
            "B = rng.standard_normal(c.shapes(out_features, in_features)[1])\n"
            "answer = numerical_rank(delta_weight(A, B))\nanswer"
        ),
        low=1,
        high=OUT * IN,
        draw={"r1": c.r1, "r2": c.r2, "r": c.r, "seed": seed},
    )


SETUP = (
    "import numpy as np\n\nfrom cdka import Components\nfrom cdka.theory import delta_weight, kaiming_components, "
    f"numerical_rank, singular_values\n\nout_features, in_features = {OUT}, {IN}"
)
CHAPTER = Chapter(2, "From LoRA", TEXT, 8, CONTROLS, PAGES, draw, question, draw_question, SETUP)
