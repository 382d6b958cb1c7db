"""Chapter 1, the Kronecker product: its numbers and its exercise. Its figures are in ``figures``."""

from __future__ import annotations

import numpy as np

from app.learn.board.matrices import short
from app.learn.course import OURS, TEXTBOOK, Chapter, Control, Equation, Page, Question, Try, Values
from app.learn.kronecker.figures import cover, stage
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
)  # fmt: skip

CONTROLS = (
    Control(1, "B", "B", "matrix", ((1.0, 2.0), (0.0, -1.0)), parse=parse_matrix("B", B_SHAPE)),
    Control(1, "A", "A", "matrix", ((1.0, 0.0, 2.0), (3.0, 1.0, -1.0)), parse=parse_matrix("A", A_SHAPE)),
    Control(1, "x", "x", "matrix", ((1.0, 0.0, 2.0, -1.0, 1.0, 3.0),), parse=parse_matrix("x", X_SHAPE)),
    Control(1, "pick", "the picked entry", "matrix", (0, 5), parse=parse_pick),
    Control(1, "step", "How far to go", "buttons", STEPS[0], STEPS, views=("steps",)),
    Control(1, "size", "Size n of the layer (n × n)", "slider", 256, SIZES, views=("cost",)),
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
    Page(
        title="One small matrix, repeated",
        text="""
Take two small matrices. Replace every entry of $B$ by *that entry times the whole of* $A$. The result is the
[[Kronecker product]] $B \\otimes A$. ((textbook))

**Drag any number** of $B$ or $A$ left or right (or click and type; arrow keys work too). Point at a cell of the
product: the two numbers it is made of light up. **Click one** to pick it.

One entry of $B$ steers a whole block. One entry of $A$ appears once in every block.
""",
        code=lambda v: f"{_arrays(v)}\nK = delta_weight(A[None], B[None])\nassert np.allclose(K, np.kron(B, A))\nK",
        source=TEXTBOOK,
        focus=("B", "A", "pick"),
        equation=Equation(r"(B\otimes A)_{(i,k),\,(j,l)} = b_{ij}\,a_{kl}", lambda v: product_numbers(v)),
        view="product",
    ),
    Page(
        title="Ten numbers fill twenty-four cells",
        text="""
You edit 4 + 6 numbers; the product has 24. That is why Kronecker adapters use it: **few numbers, large
matrix**. ((paper))

And unlike other ways of being small, it need not be of low [[rank]]: the ranks multiply. Two matrices of full
rank make a product of full rank. ((textbook: the singular values of a product are all products of one of each))

Make the two rows of $B$ equal and watch the rank of the product halve.
""",
        code=lambda v: (
            f"{_arrays(v)}\nnumerical_rank(B), numerical_rank(A), numerical_rank(delta_weight(A[None], B[None]))"
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
        view="product",
    ),
    Page(
        title="Multiply without building it",
        text="""
To apply the product to a vector you never need the large matrix. Cut $x$ into rows: that is $X$. Multiply by
$A^T$ on the right, then by $B$ on the left, and read the result row by row. ((textbook: the vec trick, with
rows in place of columns))

**Step through it**, and compare the last step with $(B\\otimes A)\\,x$ computed the long way. This is the
[[factored forward]], the idea that every adapter in the Studio runs on, one line of PyTorch: `(B @ (x.view(n, r2,
-1) @ A.T)).flatten(1)`. ((ours: factored_forward against np.kron, below))
""",
        code=lambda v: (
            f"{_arrays(v)}\nX = x.reshape(2, 3)\ny = (B @ (X @ A.T)).ravel()\n"
            "assert np.allclose(y, np.kron(B, A) @ x)\n"
            "assert np.allclose(y, factored_forward(x[None], A[None], B[None])[0])\ny"
        ),
        source=TEXTBOOK,
        focus=("step", "x"),
        equation=Equation(r"(B\otimes A)\,x=\operatorname{vec}\!\left(B\,X A^{T}\right)", lambda v: step_numbers(v)),
        tries=(Try("Show all steps", {"step": "y"}),),
        view="steps",
    ),
    Page(
        title="Why it pays",
        text="""
On four rows the trick saves little: 20 multiplications instead of 24. On a real layer it saves nearly
everything, and the large matrix never has to sit in memory. ((ours: counted by Components))

**Move the size.** The bars are a layer of that size with two rows in $A$ (`r1` = 2) and eight columns in $B$
(`r2` = 8). Chapter 3 counts a whole model like this.
""",
        code=lambda v: (
            f"n = {v['size']}\nc = Components(r1=2, r2=8, r=1)\n"
            "{'multiplications, full': n * n, 'multiplications, factored': c.flops_per_token(n, n) // 2,\n"
            " 'numbers, full': n * n, 'numbers, factored': c.num_params(n, n)}"
        ),
        source=OURS,
        focus=("size",),
        equation=Equation(
            r"\underbrace{n\,<r1>+n\,<r2>}_{\text{factored}}\ \text{instead of}\ \underbrace{n\cdot n}_{\text{full}}",
            lambda v: cost(v["size"]).latex(),
        ),
        view="cost",
    ),
)


def ask(seed: int, values: Values) -> Question:
    """Which number stands at a place of B (x) A? Small whole numbers, none of them zero."""
    rng = np.random.default_rng([seed, 1])
    B, A = (rng.choice([-3, -2, -1, 1, 2, 3, 4], size=shape).astype(float) for shape in (B_SHAPE, A_SHAPE))
    place = int(rng.integers(2, 4)), int(rng.integers(3, 6))
    asked = {"B": tuple(map(tuple, B)), "A": tuple(map(tuple, A)), "pick": place}

    def explain(answer: float) -> str:
        (i, j), (k, m) = parts(*place)
        b, a = entry(asked["B"], i, j), entry(asked["A"], k, m)
        return (
            f"Row {place[0] + 1}, column {place[1] + 1} lies in the block of $b_{{{i + 1}{j + 1}}}$ = "
            f"{short(b)}; inside "
            f"that block it is $a_{{{k + 1}{m + 1}}}$ = {short(a)}. Their product is **{short(answer)}**."
        )

    return Question(
        prompt=(
            f"The product is covered. Which number stands in **row {place[0] + 1}, column {place[1] + 1}** of "
            "$B\\otimes A$? Find the block first, then the place inside it."
        ),
        answer=lambda: float(kron(asked)[place]),
        explain=explain,
        code=(
            f"B = np.array({B.tolist()})\nA = np.array({A.tolist()})\n"
            f"answer = delta_weight(A[None], B[None])[{place[0]}, {place[1]}]\nanswer"
        ),
        low=-100,
        high=100,
        draw=asked,
    )


CHAPTER = Chapter(
    number=1,
    short="Kronecker product",
    title="The Kronecker product",
    idea="Two small matrices make a large one, and the large one never has to be built.",
    minutes=6,
    controls=CONTROLS,
    pages=PAGES,
    stage=stage,
    ask=ask,
    cover=cover,
    setup="import numpy as np\n\nfrom cdka import Components\nfrom cdka.theory import delta_weight, "
    "factored_forward, numerical_rank",
    finish="You can find any entry of a Kronecker product, and apply one without building it. Next: what LoRA "
    "has to do with it.",
)
