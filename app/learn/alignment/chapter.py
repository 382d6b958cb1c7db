"""Chapter 4, alignment: its text and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn.alignment.figures import FALLS, INITS, MANY_INITS, RANGE, RANKS, SIDE, SPECTRA, cover, judge, now, stage
from app.learn.course import OURS, PAPER, Chapter, Control, Equation, Page, Question, Try, Values, seed_control
from cdka.components import Components

CONTROLS = (
    Control(
        4, "fall", "G: how fast it falls", "slider", 0.5, FALLS, views=("spectra", "best"),
        help="The i-th singular value of G is i to the power of minus this. 0: all equal.",
    ),
    Control(
        4, "rank", "G: its rank", "slider", SIDE, RANKS, views=("spectra", "best"),
        help="How many singular values of G are not zero.",
    ),
    Control(4, "r1", "r1", "slider", 2, RANGE),
    Control(4, "r2", "r2", "slider", 8, RANGE),
    Control(4, "r", "r", "slider", 4, RANGE),
    Control(4, "seed", "Seed", "seed", 0, help=seed_control(4).help, views=("curves",)),
)  # fmt: skip


def _gradient(fall: float, rank: int, seed: int) -> str:
    return f"G = simulated_gradient({SIDE}, {SIDE}, {seed}, values=spectrum_values({rank}, 'power', {fall}))\n"


def _code(v: Values, last: str) -> str:
    return f"{_gradient(v['fall'], v['rank'], v['seed'])}c = Components({v['r1']}, {v['r2']}, {v['r']})\n{last}"


def _formula(v: Values) -> str:
    predicted, measured, _ = now(v)
    capped = r"\ \text{(its largest)}" if predicted == 1 else ""
    return (
        rf"\sqrt{{\frac{{<r:{v['r']}>\cdot <r2:{v['r2']}>}}{{<r1:{v['r1']}>\cdot {SIDE}}}}}={predicted:.3f}{capped}"
        rf"\\ \text{{measured }}{measured:.3f}"
    )


_FORMULA = Equation(r"\cos\angle\approx\sqrt{\frac{<r>\,<r2>}{<r1>\,\text{in}}}", _formula)

PAGES = (
    Page(
        title="What would full fine-tuning do?",
        text="""
Here is the question that decides between settings of equal price. [[Full fine-tuning|full fine-tuning]] takes
its first step along the [[gradient]] $G$ of the weight. An adapter starts with all $B_i = 0$, so $\\Delta W =
0$, and its first step moves $\\Delta W$ too. **How well do the two steps agree?** Their cosine is the
[[alignment]]. ((paper: the notion))

In the figure, each panel moves one of the three numbers and holds the others where you set them. The paper
says: `r2` helps, `r1` hurts, `r` helps less and less. ((paper: its main result)) **Move the sliders** and see
whether that holds.
""",
        code=lambda v: _code(v, f"measured_alignment(G, c, rng={v['seed']}, inits={INITS}).mean()"),
        source=PAPER,
        focus=("r1", "r2", "r"),
        equation=_FORMULA,
        view="curves",
    ),
    Page(
        title="The same numbers in another order",
        text="""
Why? Write the entries of $G$ in another order, block by block. This [[rearrangement]] $R$ has a wonderful
property: it turns a [[Kronecker product]] into a matrix of rank **one**, and a sum of `r` of them into one of
rank at most `r`. ((cited: Van Loan and Pitsianis, 1993))

So an adapter with `r` [[component|components]] is a rank-`r` approximation of $R(G)$, not of $G$. ((ours))
**Move `r1` and `r2`**: they decide the shape of $R(G)$ and how its [[singular values]] fall. **Shape $G$ too**:
its own singular values are yours to set.

In the green band are the `r` largest: the most that these components could ever catch in one step. ((textbook:
Eckart, Young and Mirsky))
""",
        code=lambda v: _code(
            v,
            "A, B = np.random.default_rng(0).standard_normal((2, 8, 8))\n"
            "assert numerical_rank(rearrange(np.kron(B, A), 8, 8)) == 1\nrearrange(G, c.r1, c.r2).shape, "
            "best_capture(G, c) ** 2",
        ),
        source=OURS,
        focus=("fall", "rank", "r1", "r2"),
        equation=Equation(
            r"R\Big(\sum_{i=1}^{<r>}B_i\otimes A_i\Big)\\ =\sum_{i=1}^{<r>}\operatorname{vec}"
            r"(B_i)\operatorname{vec}(A_i)^T",
            lambda v: (
                rf"R(G):\ \frac{{{SIDE}\cdot <r2:{v['r2']}>}}{{<r1:{v['r1']}>}}"
                rf"\times\frac{{<r1:{v['r1']}>\cdot {SIDE}}}{{<r2:{v['r2']}>}}"
                rf"\\ ={SIDE * v['r2'] // v['r1']}\times {v['r1'] * SIDE // v['r2']},\ \text{{rank}}\le <r:{v['r']}>"
            ),
        ),
        view="spectra",
    ),
    Page(
        title="A random span",
        text="""
The $A_i$ start random. So at the first step the adapter sees $R(G)$ only along `r` random directions, in a
space whose dimension is the width of $R(G)$: `r1` · in / `r2`.

The share of a vector that `r` random directions catch is `r` divided by the dimension. ((textbook: the mean of a
random projection)) The cosine is its root. That is the whole formula: ((ours: derived; the paper has the
trends)) `r2` makes the space **smaller**, `r1` makes it **larger**, `r` gives more directions
in it.

Dashed is the formula, dots are measured. **Push `r2` to 16 and `r` to 16**: where the formula reaches 1 the
dots stay below, because the random directions are not at right angles. ((ours: expected_step, below))
""",
        code=lambda v: _code(
            v, f"report(G, c, rng={v['seed']}, inits={INITS})  # expected_step takes the angles into account"
        ),
        source=OURS,
        focus=("r2", "r"),
        equation=_FORMULA,
        tries=(Try("2, 8, 4", {"r1": 2, "r2": 8, "r": 4}), Try("2, 16, 16", {"r1": 2, "r2": 16, "r": 16})),
        view="curves",
    ),
    Page(
        title="Why more components help less and less",
        text="""
Double `r`: the parameters double, the alignment grows by $\\sqrt 2$. Four times the price for twice the
alignment. ((ours: from the formula; the paper finds diminishing returns))

Double `r2` instead: the same $\\sqrt 2$, and while `r2` is smaller than `r1` the price even falls (chapter 3).
So first choose the ratio of `r2` to `r1`, then spend what is left on `r`. At a fixed price the gain ends near
`r2`/`r1` = 4 ((ours: from the formula and the count)); the paper's (2, 8) lies there.

Compare two settings of the same alignment, and their prices under the figure.
""",
        code=lambda v: _code(
            v,
            f"for d in (Components(1, 1, 16), Components(1, 4, 4)):\n    print(d, d.num_params({SIDE}, {SIDE}), "
            f"d.alignment({SIDE}), "
            f"measured_alignment(G, d, rng={v['seed']}, inits={INITS}).mean())",
        ),
        source=OURS,
        focus=("r",),
        equation=Equation(
            r"\text{alignment}\propto\sqrt{<r>},\qquad\text{parameters}\propto <r>",
            lambda v: (
                rf"<r:{v['r']}>\to <r:{2 * v['r']}>:\quad \times\sqrt2\ \text{{for}}\ "
                rf"{Components(v['r1'], v['r2'], v['r']).num_params(SIDE, SIDE):,}\to "
                rf"{Components(v['r1'], v['r2'], 2 * v['r']).num_params(SIDE, SIDE):,}".replace(",", r"\,").replace(
                    r"\,\,", ","
                )
            ),
        ),
        tries=(Try("1, 1, 16: LoRA", {"r1": 1, "r2": 1, "r": 16}), Try("1, 4, 4", {"r1": 1, "r2": 4, "r": 4})),
        view="curves",
    ),
    Page(
        title="What a good start could reach",
        text="""
Random directions do not care what $G$ looks like: **let it fall faster, or lower its rank**, and the dots barely
move. ((ours: measured_alignment))

The crosses do. They are the [[best capture]]: the most that *any* $A_i$ could reach, given by the largest
singular values of $R(G)$. ((ours: best_capture)) Where $G$ has low rank, LoRA could catch nearly all of it, if
only it started in the right directions. Nothing in a random start finds them; the gradient itself does, which
is what an initialisation from the gradient uses. ((cited: for LoRA, Wang et al., LoRA-GA, 2024))

Alignment describes the **first** step. Later steps turn the $A_i$, and then the rank counts too: chapter 6.
""",
        code=lambda v: _code(v, f"best_capture(G, c), measured_alignment(G, c, rng={v['seed']}, inits={INITS}).mean()"),
        source=OURS,
        focus=("fall", "rank"),
        equation=Equation(
            r"\text{best}=\sqrt{\frac{\sum_{i\le <r>}s_i^2}{\sum_i s_i^2}}\\ s=\text{singular values of }R(G)",
            lambda v: r"\text{{best}}={2:.3f}\\ \text{{measured}}={1:.3f},\ \text{{predicted}}={0:.3f}".format(*now(v)),
        ),
        tries=(
            Try("LoRA on rank 4", {"fall": 0.0, "rank": 4, "r1": 1, "r2": 1, "r": 4}),
            Try("2, 8, 4 on it", {"fall": 0.0, "rank": 4, "r1": 2, "r2": 8, "r": 4}),
        ),
        view="best",
    ),
)

_SETS = (
    ((1, 1, 4), (2, 8, 2), (8, 2, 2), (4, 4, 4)),
    ((1, 1, 8), (4, 16, 4), (2, 2, 8), (8, 4, 6)),
    ((1, 4, 2), (4, 1, 2), (4, 4, 4), (1, 1, 4)),
    ((1, 8, 1), (8, 8, 4), (16, 4, 2), (2, 2, 4)),
)
"""Settings of similar price, with one clearly best aligned."""


def ask(seed: int, values: Values) -> Question:
    """Which of four settings of similar price aligns best? Measured on a simulated gradient."""
    rng = np.random.default_rng([seed, 4])
    chosen = _SETS[int(rng.integers(len(_SETS)))]
    candidates = tuple(Components(*chosen[i]) for i in rng.permutation(len(chosen)))
    kind = list(SPECTRA)[int(rng.integers(len(SPECTRA)))]
    spectrum = SPECTRA[kind]

    def name(c: Components) -> str:
        return f"r1 {c.r1} · r2 {c.r2} · r {c.r}"

    def answer() -> str:
        return name(max(judge(candidates, spectrum, seed), key=lambda row: row[2])[0])

    def explain(best: str) -> str:
        ranked = sorted(judge(candidates, spectrum, seed), key=lambda row: -row[2])
        told = "; ".join(f"({c}) has {c.r} · {c.r2} / {c.r1} = {c.r * c.r2 / c.r1:g}" for c, _, _ in ranked)
        return (
            f"Compare `r` · `r2` / `r1`: {told}. The measured alignment follows: **{best}** comes first with "
            f"{ranked[0][2]:.3f}."
        )

    return Question(
        prompt=(
            f"Four settings for a layer of {SIDE} × {SIDE}. **Which one's first step agrees best with full "
            f"fine-tuning?** "
            f"It will be measured on a gradient whose spectrum is {kind}."
        ),
        answer=answer,
        explain=explain,
        code=(
            f"{_gradient(*spectrum, seed)}G = G.astype(np.float32)\n"
            f"candidates = [Components(*c) for c in {[c.as_tuple() for c in candidates]}]\n"
            f"best = max(candidates, key=lambda c: measured_alignment(G, c, rng={seed}, inits={MANY_INITS}).mean())\n"
            'answer = f"r1 {best.r1} · r2 {best.r2} · r {best.r}"\nanswer'
        ),
        choices=tuple(name(c) for c in candidates),
        draw={"candidates": candidates, "spectrum": spectrum, "seed": seed},
    )


CHAPTER = Chapter(
    number=4,
    short="Alignment",
    title="Alignment",
    idea="From a random start, an adapter sees the gradient through r random directions; r1 and r2 decide how "
    "many there are to miss.",
    minutes=10,
    controls=CONTROLS,
    pages=PAGES,
    stage=stage,
    ask=ask,
    cover=cover,
    setup=(
        "import numpy as np\n\nfrom cdka import Components\nfrom cdka.theory import (\n    best_capture, "
        "measured_alignment, "
        "numerical_rank, rearrange, report, simulated_gradient, spectrum_values,\n)"
    ),
    finish="You can rank settings before training anything. Next: why large ones used to explode.",
)
