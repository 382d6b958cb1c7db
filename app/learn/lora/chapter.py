"""Chapter 2, from LoRA to CDKA: its text and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn.course import OURS, PAPER, Chapter, Control, Equation, Page, Question, Try, Values, seed_control
from app.learn.lora.figures import IN, OUT, cover, lora_rank, measured_rank, stage
from cdka.components import Components

DIMENSIONS = (1, 2, 4, 8, 16)

CONTROLS = (
    Control(2, "r1", "r1: cuts the output", "slider", 1, DIMENSIONS, help="Divides out_features. Rows of each A_i."),
    Control(2, "r2", "r2: cuts the input", "slider", 1, DIMENSIONS, help="Divides in_features. Columns of each B_i."),
    Control(2, "r", "r: components summed", "slider", 4, (1, 2, 3, 4, 6, 8), help="How many products are added up."),
    seed_control(2),
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


PAGES = (
    Page(
        title="LoRA, said in Kronecker products",
        text="""
An [[adapter]] leaves the weight $W_0$ frozen and learns a change, [[delta W]]. [[LoRA]] makes the change from a
tall matrix times a wide one: `r` columns, `r` rows. ((cited: Hu et al., LoRA, 2021))

A column times a row *is* a [[Kronecker product]]: $b\\,a^T = b\\otimes a^T$. So LoRA is a sum of `r` Kronecker
products whose $B_i$ are columns and whose $A_i$ are rows. ((paper: LoRA is the case r1 = r2 = 1)) In the
picture `r1` = `r2` = 1, and the adapter and "LoRA of equal cost" are the same drawing.

**Move `r`**: each [[component]] adds one column and one row.
""",
        code=lambda v: (
            _draw({**v, "r1": 1, "r2": 1})
            + "lora = c.scaling(1.0) * B[:, :, 0].T @ A[:, 0, :]  # tall times wide\nassert np.allclose(delta, "
            "lora)\ndelta.shape"
        ),
        source=PAPER,
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
    Page(
        title="r2 cuts the input, r1 cuts the output",
        text="""
Now let go of the ones. `r2` gives $B_i$ that many columns and makes $A_i$ shorter: the input is cut into `r2`
pieces that share one $A_i$. `r1` gives $A_i$ that many rows and makes $B_i$ shorter: the output comes in groups
of `r1`. ((paper: the shapes of A and B))

The shapes stay tied to the layer, so `r1` must divide out_features and `r2` in_features.

**Move `r2`, then `r1`**, and watch copies of one block appear in the values: that is chapter 1, summed `r`
times.
""",
        code=lambda v: _draw(v) + "A.shape, B.shape, delta.shape",
        source=PAPER,
        focus=("r1", "r2"),
        equation=Equation(
            r"B_i:\ \tfrac{\text{out}}{<r1>}\times <r2>\qquad A_i:\ <r1>\times\tfrac{\text{in}}{<r2>}",
            lambda v: rf"B_i:\ {OUT // v['r1']}\times <r2:{v['r2']}>\qquad A_i:\ <r1:{v['r1']}>\times {IN // v['r2']}",
        ),
        tries=(Try("Only r2", {"r1": 1, "r2": 8, "r": 1}), Try("Both", {"r1": 4, "r2": 8, "r": 1})),
        view="matrix",
    ),
    Page(
        title="The same budget, another shape",
        text="""
What does it cost? Every component has two parts, one that `r1` makes smaller and one that `r1` makes larger. If
`r1` and `r2` grow **together**, the cost hardly moves: only their ratio counts, apart from the shape of the
layer. ((ours: counted by Components.num_params))

But the [[rank]] does move. LoRA buys one rank per component. A component of CDKA has rank `r1` · `r2`. ((ours:
singular values of random factors; numerical_rank))

**Try the three settings.** They cost about the same; look at how many [[singular values]] are not zero.
""",
        code=lambda v: _draw(v) + "c.num_params(out_features, in_features), numerical_rank(delta)",
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
    Page(
        title="How far the rank can go",
        text="""
In practice the rank is `r` · `r1` · `r2`. The exact [[rank bound]] also knows that no factor has more rank than
its shorter side, and that nothing exceeds the layer. ((ours: derived, and reached by random factors;
Components.rank_bound))

Rank is no free lunch. The numbers are the same few, so the directions are tied to each other. And every CDKA
adapter *is* a LoRA of rank `r` · `r1` · `r2` whose two matrices have a pattern: the Studio can export it as
one, exactly. ((ours: cdka export-lora, tested to the last digits in float64))

**Look for the smallest adapter of full rank**, 48.
""",
        code=lambda v: (
            _draw(v) + "assert numerical_rank(delta) == c.rank_bound(out_features, in_features)\n"
            "c.rank_bound(out_features, in_features)"
        ),
        source=OURS,
        focus=("r1", "r2", "r"),
        equation=Equation(
            r"\min\left(\text{out},\,\text{in},\,<r>\min(\tfrac{\text{out}}{<r1>},<r2>)\,\min(<r1>,"
            r"\tfrac{\text{in}}{<r2>})\right)",
            _rank,
        ),
        tries=(Try("The paper's 2, 8, 4", {"r1": 2, "r2": 8, "r": 4}), Try("4, 16, 1", {"r1": 4, "r2": 16, "r": 1})),
        view="spectrum",
    ),
)

_ASKED = (
    (2, 4, 2),
    (4, 4, 2),
    (4, 16, 1),
    (8, 2, 2),
    (2, 8, 3),
    (16, 4, 1),
    (8, 8, 1),
    (4, 2, 3),
    (16, 8, 1),
    (1, 16, 2),
)
"""Some where r r1 r2 is the rank, and some where a factor is too short for it."""


def ask(seed: int, values: Values) -> Question:
    """What rank does delta W have? Measured on random factors by singular values."""
    c = Components(*_ASKED[int(np.random.default_rng([seed, 2]).integers(len(_ASKED)))])
    (_, _, a_columns), (_, b_rows, _) = c.shapes(OUT, IN)
    naive = c.r * c.r1 * c.r2

    def explain(answer: float) -> str:
        text = f"`r` · `r1` · `r2` = {naive}. "
        if naive == answer:
            text += "Both factors are long enough, and the layer is larger, so nothing gets in the way."
        else:
            text += (
                f"But $B_i$ is {b_rows} × {c.r2}, of rank at most {min(b_rows, c.r2)}; $A_i$ is {c.r1} × "
                f"{a_columns}, of rank "
                f"at most {min(c.r1, a_columns)}; and the layer allows {min(OUT, IN)}."
            )
        return f"{text} Measured: **{answer:.0f}** singular values are not zero."

    return Question(
        prompt=(
            f"A layer of {OUT} × {IN} gets `r1` = {c.r1}, `r2` = {c.r2}, `r` = {c.r}. That costs as much as LoRA of "
            f"rank {lora_rank(c)}. **What is the rank of** $\\Delta W$ for random $A_i$ and $B_i$?"
        ),
        answer=lambda: float(measured_rank(c, seed)),
        explain=explain,
        code=(
            f"c = Components{c.as_tuple()}\nrng = np.random.default_rng({seed})\nA = kaiming_components(c, "
            f"in_features, rng)\n"
            "B = rng.standard_normal(c.shapes(out_features, in_features)[1])\n"
            "answer = numerical_rank(delta_weight(A, B))\nanswer"
        ),
        low=1,
        high=OUT * IN,
        draw={"r1": c.r1, "r2": c.r2, "r": c.r, "seed": seed},
    )


CHAPTER = Chapter(
    number=2,
    short="From LoRA",
    title="From LoRA to CDKA",
    idea="LoRA is the corner r1 = r2 = 1 of a larger family; the rest of it buys rank with the same numbers.",
    minutes=7,
    controls=CONTROLS,
    pages=PAGES,
    stage=stage,
    ask=ask,
    cover=cover,
    setup=(
        "import numpy as np\n\nfrom cdka import Components\nfrom cdka.theory import delta_weight, kaiming_components, "
        f"numerical_rank\n\nout_features, in_features = {OUT}, {IN}"
    ),
    finish="You can read off the rank of any configuration. Next: what it costs on a model that people use.",
)
