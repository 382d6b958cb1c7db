"""Chapter 1, the Kronecker product: its pages and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn import prose
from app.learn.board.matrices import short
from app.learn.course import CITED, OURS, TEXTBOOK, Chapter, Control, Equation, Question, Try, Values, page
from app.learn.kronecker.figures import draw, draw_question
from app.learn.kronecker.numbers import (
    A_SHAPE,
    B_SHAPE,
    SIZES,
    STEPS,
    X_SHAPE,
    cost,
    entry,
    kron,
    parse_matrix,
    parse_pick,
    parts,
    product_numbers,
    ranks,
    step_numbers,
    training_numbers,
)

TEXT = prose.read(__file__)

CONTROLS = (
    Control(1, "B", "B", "matrix", ((1.0, 2.0), (0.0, -1.0)), parse=parse_matrix("B", B_SHAPE)),
    Control(1, "A", "A", "matrix", ((1.0, 0.0, 2.0), (3.0, 1.0, -1.0)), parse=parse_matrix("A", A_SHAPE)),
    Control(1, "x", "x", "matrix", ((1.0, 0.0, 2.0, -1.0, 1.0, 3.0),), parse=parse_matrix("x", X_SHAPE)),
    Control(1, "pick", "the picked entry", "matrix", (0, 5), parse=parse_pick),
    Control(1, "step", "How far to go", "buttons", STEPS[0], STEPS, views=("steps",)),
    Control(1, "fold1", "r1: rows of a block", "slider", 2, (1, 2, 4, 8), views=("fold",)),
    Control(1, "fold2", "r2: cuts the columns", "slider", 2, (1, 2, 4, 8), views=("fold",)),
    Control(1, "size", "Size n of the layer (n × n)", "slider", 256, SIZES, views=("cost", "layer")),
)


def _arrays(values: Values) -> str:
    return "\n".join(
        [
            f"B = np.array({[list(row) for row in values['B']]})",
            f"A = np.array({[list(row) for row in values['A']]})",
            f"x = np.array({list(values['x'][0])})",
        ]
    )


PAGES = (
    page(
        TEXT,
        "why",
        code=lambda v: (
            f"n = {v['size']}\nc = Components(r1=2, r2=8, r=1)\n"
            "full = TRAINING_BYTES_PER_PARAM * n * n\nadapter = TRAINING_BYTES_PER_PARAM * c.num_params(n, n)\n"
            "full, adapter"
        ),
        plot=lambda v: "bars('Bytes to train one layer', {'all of W': full, 'an adapter': adapter}, log=True)",
        source=OURS,
        focus=("size",),
        equation=Equation(
            r"\underbrace{y}_{\text{out}}=\underbrace{W}_{\text{out}\times\text{in}}\ \underbrace{x}_{\text{in}}",
            lambda v: training_numbers(v["size"]),
        ),
        view="layer",
    ),
    page(
        TEXT,
        "product",
        code=lambda v: f"{_arrays(v)}\nK = delta_weight(A[None], B[None])\nassert np.allclose(K, np.kron(B, A))\nK",
        plot=lambda v: "heat('B ⊗ A: every block is A times one entry of B', K)",
        source=TEXTBOOK,
        focus=("B", "A", "pick"),
        equation=Equation(r"(B\otimes A)_{(i,k),\,(j,l)} = b_{ij}\,a_{kl}", product_numbers),
        view="product",
    ),
    page(
        TEXT,
        "rank",
        code=lambda v: (
            f"{_arrays(v)}\nprint('singular values of B', singular_values(B).round(3))\n"
            "numerical_rank(B), numerical_rank(A), numerical_rank(delta_weight(A[None], B[None]))"
        ),
        plot=lambda v: (
            "turn = np.linspace(0, 2 * np.pi, 100)\ncircle = np.array([np.cos(turn), np.sin(turn)])\n"
            "lines('B turns the circle into an ellipse', {'circle': tuple(circle), 'B times it': tuple(B @ circle)})"
        ),
        source=TEXTBOOK,
        focus=("B", "A"),
        equation=Equation(
            r"\operatorname{rank}(B\otimes A)=\operatorname{rank}B\cdot\operatorname{rank}A",
            lambda v: "{2} = {0}\\cdot {1}".format(*ranks(v)),
        ),
        tries=(
            Try("Make the rows of B equal", {"B": ((1.0, 2.0), (1.0, 2.0))}),
            Try("Make B the identity", {"B": ((1.0, 0.0), (0.0, 1.0))}),
        ),
        view="ellipse",
    ),
    page(
        TEXT,
        "fold",
        code=lambda v: (
            "rng = np.random.default_rng(0)\nb, a = rng.standard_normal((4, 2)), rng.standard_normal((2, 3))\n"
            "K = np.kron(b, a)\nR = rearrange(K, 2, 2)\n"
            "assert np.allclose(R, np.outer(b.ravel(), a.ravel()))\nK.shape, R.shape, numerical_rank(R)"
        ),
        plot=lambda v: "heat('R(B ⊗ A): every row is a multiple of one row', R)",
        source=CITED,
        focus=("fold1", "fold2"),
        equation=Equation(
            r"R(B\otimes A)=\operatorname{vec}(B)\,\operatorname{vec}(A)^T",
            lambda v: (
                rf"{16 * v['fold2'] // v['fold1']}\times {16 * v['fold1'] // v['fold2']}:\quad "
                rf"B\ \text{{has}}\ {16 // v['fold1']}\times {v['fold2']},\ "
                rf"A\ \text{{has}}\ {v['fold1']}\times {16 // v['fold2']}"
            ),
        ),
        view="fold",
    ),
    page(
        TEXT,
        "steps",
        code=lambda v: (
            f"{_arrays(v)}\nX = x.reshape(2, 3)\ny = (B @ (X @ A.T)).ravel()\n"
            "assert np.allclose(y, np.kron(B, A) @ x)\n"
            "assert np.allclose(y, factored_forward(x[None], A[None], B[None])[0])\ny"
        ),
        plot=lambda v: "bars('(B ⊗ A) x, entry by entry', {f'y{i + 1}': value for i, value in enumerate(y)})",
        source=TEXTBOOK,
        focus=("step", "x"),
        equation=Equation(r"(B\otimes A)\,x=\operatorname{vec}\!\left(B\,X A^{T}\right)", step_numbers),
        tries=(Try("Show all steps", {"step": "y"}),),
        view="steps",
    ),
    page(
        TEXT,
        "cost",
        code=lambda v: (
            f"n = {v['size']}\nc = Components(r1=2, r2=8, r=1)\n"
            "full, factored = n * n, c.flops_per_token(n, n) // 2\n"
            "{'multiplications, full': full, 'multiplications, factored': factored,\n"
            " 'numbers, full': n * n, 'numbers, factored': c.num_params(n, n)}"
        ),
        plot=lambda v: "bars('Multiplications for one vector', {'full': full, 'factored': factored}, log=True)",
        source=OURS,
        focus=("size",),
        equation=Equation(
            r"\underbrace{n\,<r1>+n\,<r2>}_{\text{factored}}\ \text{instead of}\ \underbrace{n\cdot n}_{\text{full}}",
            lambda v: cost(v["size"]).latex(),
        ),
        view="cost",
    ),
)


def question(seed: int, values: Values) -> Question:
    """The question of the number at a place of B (x) A: small whole numbers, none zero; any block but the first."""
    rng = np.random.default_rng([seed, 1])
    B, A = (rng.choice([-3, -2, -1, 1, 2, 3, 4], size=shape).astype(float) for shape in (B_SHAPE, A_SHAPE))
    block = divmod(int(rng.integers(1, B.size)), B.shape[1])
    inside = divmod(int(rng.integers(A.size)), A.shape[1])
    place = block[0] * A.shape[0] + inside[0], block[1] * A.shape[1] + inside[1]
    asked = {"B": tuple(map(tuple, B)), "A": tuple(map(tuple, A)), "pick": place}
    row, column = place[0] + 1, place[1] + 1

    def explain(answer: float) -> str:
        (i, j), (k, m) = parts(*place)
        return TEXT.part(
            "explanation",
            row=row,
            column=column,
            answer=short(answer),
            b_name=f"b_{{{i + 1}{j + 1}}}",
            b=short(entry(asked["B"], i, j)),
            a_name=f"a_{{{k + 1}{m + 1}}}",
            a=short(entry(asked["A"], k, m)),
        )

    def hint(prediction: float, answer: float) -> str:
        K = kron(asked)
        same_place = K[inside[0] :: A.shape[0], inside[1] :: A.shape[1]]
        same_block = B[block] * A
        if prediction == np.kron(A, B)[place]:
            kind = "exchanged"
        elif prediction == -answer:
            kind = "sign"
        elif prediction in same_place:
            kind = "block"
        elif prediction in same_block:
            kind = "place"
        else:
            kind = "other"
        return TEXT.part(f"hint: {kind}", **({"rows": 2, "columns": 3} if kind in ("block", "other") else {}))

    return Question(
        prompt=TEXT.part("question", row=row, column=column),
        answer=lambda: float(kron(asked)[place]),
        explain=explain,
        hint=hint,
        code=(
            f"B = np.array({B.tolist()})\nA = np.array({A.tolist()})\n"
            f"answer = delta_weight(A[None], B[None])[{place[0]}, {place[1]}]\nanswer"
        ),
        low=-100,
        high=100,
        draw=asked,
    )


SETUP = (
    "import numpy as np\n\nfrom cdka import Components\nfrom cdka.cost.adapter import TRAINING_BYTES_PER_PARAM\n"
    "from cdka.theory import delta_weight, factored_forward, numerical_rank, rearrange, singular_values"
)
CHAPTER = Chapter(1, "Kronecker product", TEXT, 7, CONTROLS, PAGES, draw, question, draw_question, SETUP)
