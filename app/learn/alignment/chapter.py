"""Chapter 4, alignment: its pages and its exercise."""

from __future__ import annotations

from app.learn import prose
from app.learn.alignment.figures import draw, draw_question
from app.learn.alignment.first_step import MAX_ADDED
from app.learn.alignment.numbers import (
    FALLS,
    INITS,
    MANY_INITS,
    RANGE,
    RANKS,
    SIDE,
    SPECTRA,
    STEPS,
    four,
    judge,
    now,
)
from app.learn.course import CITED, OURS, PAPER, Chapter, Control, Equation, Question, Try, Values, page, seed_control
from cdka.components import Components

TEXT = prose.read(__file__)
_STEP = next(iter(STEPS))

_LARGE, _OF_G = ("curves", "spectra", "less", "best"), ("spectra", "best")
_FALL = "The i-th singular value of G is i to the power of minus this. 0: all equal."
SMALL = (1, 2, 4, 8)
"""The values of r1 and r2 on the real gradient of 16 x 16."""

CONTROLS = (
    Control(4, "fall", "G: how fast it falls", "slider", 0.5, FALLS, _FALL, views=_OF_G),
    Control(4, "rank", "G: its rank", "slider", SIDE, RANKS, "How many singular values are not zero.", views=_OF_G),
    Control(4, "r1", "r1", "slider", 2, RANGE, views=_LARGE),
    Control(4, "r2", "r2", "slider", 8, RANGE, views=_LARGE),
    Control(4, "r", "r", "slider", 4, RANGE, views=_LARGE),
    Control(4, "p1", "r1", "slider", 2, SMALL, views=("first", "press")),
    Control(4, "p2", "r2", "slider", 4, SMALL, views=("first", "press")),
    Control(4, "pr", "r", "slider", 1, (1, 2, 4), views=("press",)),
    Control(4, "added", "Components added", "slider", 1, tuple(range(1, MAX_ADDED + 1)), views=("first",)),
    Control(4, "step", "First step", "buttons", _STEP, tuple(STEPS), views=("curves", "first")),
    seed_control(4, ("curves",)),
)


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
_CURVE = (
    "predicted = {k: Components(c.r1, c.r2, k).alignment(G.shape[1]) for k in (1, 2, 4, 8, 16)}\n"
    "measured = {k: measured_alignment(G, Components(c.r1, c.r2, k), inits=8).mean() for k in predicted}\n"
    "lines('Alignment as r grows', {'predicted': (list(predicted), list(predicted.values())), "
    "'measured': (list(measured), list(measured.values()))})"
)
_SPECTRA = (
    "def energy(M):\n    return (singular_values(M)**2 / np.sum(M**2))[:48]\n"
    "lines('Share of the energy of each singular value', "
    "{'G': energy(G), 'R(G)': energy(rearrange(G, c.r1, c.r2))})"
)

PAGES = (
    page(
        TEXT,
        "question",
        code=lambda v: _code(
            v,
            f"step = {STEPS[v['step']]!r}\n"
            f"measured_alignment(G, c, rng={v['seed']}, inits={INITS}, step=step).mean(), c.alignment(G.shape[1])",
        ),
        plot=lambda v: _CURVE,
        source=PAPER,
        focus=("r1", "r2", "r", "step"),
        equation=_FORMULA,
        view="curves",
    ),
    page(
        TEXT,
        "first",
        code=lambda v: (
            f"r1, r2, r = {v['p1']}, {v['p2']}, {v['added']}\nrng = np.random.default_rng(0)\n"
            "G = rng.standard_normal((16, 16))\n"
            "A = rng.uniform(-1, 1, (r, r1, 16 // r2))\nB = np.zeros((r, 16 // r1, r2))\n\n"
            "def loss(A, B):  # any loss whose gradient for delta W is G at delta W = 0\n"
            "    return np.sum(G * delta_weight(A, B))\n\n"
            "def slope(which, index, h=1e-6):\n"
            "    moved = [A.copy(), B.copy()]\n    moved[which][index] += h\n"
            "    return (loss(*moved) - loss(A, B)) / h\n\n"
            "of_b = np.array([slope(1, index) for index in np.ndindex(B.shape)]).reshape(r, -1)\n"
            "of_a = np.array([slope(0, index) for index in np.ndindex(A.shape)])\n"
            "formula = (rearrange(G, r1, r2) @ A.reshape(r, -1).T).T\n"
            "assert np.allclose(of_a, 0) and np.allclose(of_b, formula, atol=1e-6)\nof_b.shape"
        ),
        plot=lambda v: "heat('The first change of W, folded back', -delta_weight(A, formula.reshape(B.shape)))",
        source=OURS,
        focus=("added", "step", "p1", "p2"),
        equation=Equation(
            r"\frac{\partial L}{\partial A_i}=0,\qquad \frac{\partial L}{\partial b_i}\propto R(G)\,a_i"
            r"\\ R(\Delta W)\propto -R(G)\textstyle\sum_i a_i a_i^T",
            lambda v: (
                rf"b_i\ \text{{has}}\ {16 * v['p2'] // v['p1']}\ \text{{entries}},\quad a_i\ \text{{has}}\ "
                rf"{16 * v['p1'] // v['p2']}"
            ),
        ),
        tries=(
            Try("One component", {"added": 1, "p1": 2, "p2": 4}),
            Try("Four", {"added": 4, "p1": 2, "p2": 4}),
            Try("r1 = 4: wider", {"added": 4, "p1": 4, "p2": 4}),
        ),
        view="first",
    ),
    page(
        TEXT,
        "order",
        code=lambda v: _code(
            v,
            "A, B = np.random.default_rng(0).standard_normal((2, 8, 8))\n"
            "assert numerical_rank(rearrange(np.kron(B, A), 8, 8)) == 1\n"
            "darts = measured_alignment(G, c, inits=50, step='projection')\n"
            "rearrange(G, c.r1, c.r2).shape, np.sqrt(np.mean(darts**2)), c.alignment(G.shape[1]), best_capture(G, c)",
        ),
        plot=lambda v: "lines('Cosines of 50 random starts', {'darts': np.sort(darts)})",
        source=CITED,
        focus=("p2", "p1", "pr"),
        equation=Equation(
            r"R\Big(\sum_{i=1}^{<r>}B_i\otimes A_i\Big)=\sum_{i=1}^{<r>}\operatorname{vec}"
            r"(B_i)\operatorname{vec}(A_i)^T",
            lambda v: (
                rf"R(G):\ \frac{{16\cdot <r2:{v['p2']}>}}{{<r1:{v['p1']}>}}"
                rf"\times\frac{{<r1:{v['p1']}>\cdot 16}}{{<r2:{v['p2']}>}}"
                rf"={16 * v['p2'] // v['p1']}\times {v['p1'] * 16 // v['p2']},\ \text{{rank}}\le <r:{v['pr']}>"
            ),
        ),
        tries=(
            Try("2, 4, 1", {"p1": 2, "p2": 4, "pr": 1}),
            Try("r2 = 8: narrow", {"p1": 2, "p2": 8, "pr": 1}),
            Try("LoRA", {"p1": 1, "p2": 1, "pr": 1}),
        ),
        view="press",
    ),
    page(
        TEXT,
        "hold",
        code=lambda v: _code(v, "rearrange(G, c.r1, c.r2).shape, best_capture(G, c) ** 2, best_capture(G, c)"),
        plot=lambda v: _SPECTRA,
        source=OURS,
        focus=("fall", "rank", "r1", "r2"),
        equation=Equation(
            r"\text{best}=\sqrt{\frac{\sum_{i\le <r>}s_i^2}{\sum_i s_i^2}}\\ s=\text{singular values of }R(G)",
            lambda v: rf"\text{{best}}^2={now(v)[2] ** 2:.3f},\quad \text{{best}}={now(v)[2]:.3f}",
        ),
        tries=(
            Try("LoRA, G of rank 4", {"fall": 0.0, "rank": 4, "r1": 1, "r2": 1, "r": 4}),
            Try("2, 8, 4 on it", {"fall": 0.0, "rank": 4, "r1": 2, "r2": 8, "r": 4}),
            Try("2, 8, 4, G of full rank", {"fall": 0.0, "rank": SIDE, "r1": 2, "r2": 8, "r": 4}),
        ),
        view="spectra",
    ),
    page(
        TEXT,
        "span",
        code=lambda v: _code(
            v, f"report(G, c, rng={v['seed']}, inits={INITS})  # expected_step takes the angles into account"
        ),
        plot=lambda v: _CURVE,
        source=OURS,
        focus=("r2", "r", "step"),
        equation=_FORMULA,
        tries=(
            Try("2, 8, 4", {"r1": 2, "r2": 8, "r": 4}),
            Try("2, 16, 16", {"r1": 2, "r2": 16, "r": 16, "step": "gradient"}),
            Try("Its best in the span", {"r1": 2, "r2": 16, "r": 16, "step": "best in the span"}),
        ),
        view="curves",
    ),
    page(
        TEXT,
        "less",
        code=lambda v: _code(
            v,
            f"for d in (Components(1, 1, 16), Components(1, 4, 4)):\n    print(d, d.num_params({SIDE}, {SIDE}), "
            f"d.alignment({SIDE}), "
            f"measured_alignment(G, d, rng={v['seed']}, inits={INITS}).mean())",
        ),
        plot=lambda v: (
            f"row = [Components(c.r1, c.r2, k) for k in range(1, 17)]\nlines('Alignment against parameters', "
            f"{{str(c): ([d.num_params({SIDE}, {SIDE}) for d in row], [d.alignment({SIDE}) for d in row])}})"
        ),
        source=OURS,
        focus=("r",),
        equation=Equation(
            r"\text{alignment}\propto\sqrt{<r>},\qquad\text{parameters}\propto <r>",
            lambda v: (
                rf"<r:{v['r']}>\to <r:{2 * v['r']}>:\quad \times\sqrt2\ \text{{for}}\ "
                rf"{Components(v['r1'], v['r2'], v['r']).num_params(SIDE, SIDE)}\to "
                rf"{Components(v['r1'], v['r2'], 2 * v['r']).num_params(SIDE, SIDE)}\ \text{{parameters}}"
            ),
        ),
        tries=(Try("1, 1, 16: LoRA", {"r1": 1, "r2": 1, "r": 16}), Try("1, 4, 4", {"r1": 1, "r2": 4, "r": 4})),
        view="less",
    ),
    page(
        TEXT,
        "start",
        code=lambda v: _code(v, f"best_capture(G, c), measured_alignment(G, c, rng={v['seed']}, inits={INITS}).mean()"),
        plot=lambda v: _SPECTRA,
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


def question(seed: int, values: Values) -> Question:
    """The best aligned of four settings of similar price, measured on a simulated gradient."""
    candidates = four(seed)
    kind = list(SPECTRA)[seed % len(SPECTRA)]
    spectrum = SPECTRA[kind]

    def name(c: Components) -> str:
        return f"r1 {c.r1} · r2 {c.r2} · r {c.r}"

    def answer() -> str:
        return name(max(judge(candidates, spectrum, seed), key=lambda row: row[2])[0])

    def explain(best: str) -> str:
        ranked = sorted(judge(candidates, spectrum, seed), key=lambda row: -row[2])
        listed = "; ".join(f"({c}) has {c.r} · {c.r2} / {c.r1} = {c.r * c.r2 / c.r1:g}" for c, _, _ in ranked)
        return TEXT.part("explanation", listed=listed, best=best, measured=f"{ranked[0][2]:.3f}")

    def hint(prediction: str, best: str) -> str:
        chosen = next(c for c in candidates if name(c) == prediction)
        if chosen.rank_bound(SIDE, SIDE) == max(c.rank_bound(SIDE, SIDE) for c in candidates):
            return TEXT.part("hint: rank")
        return TEXT.part("hint: r" if chosen.r == max(c.r for c in candidates) else "hint: other")

    return Question(
        prompt=TEXT.part("question", side=SIDE, kind=kind),
        answer=answer,
        explain=explain,
        hint=hint,
        code=(
            f"{_gradient(*spectrum, seed)}G = G.astype(np.float32)\n"
            f"candidates = [Components(*c) for c in {[c.as_tuple() for c in candidates]}]\n"
            f"best = max(candidates, key=lambda c: measured_alignment(G, c, rng={seed}, inits={MANY_INITS}).mean())\n"
            'answer = f"r1 {best.r1} · r2 {best.r2} · r {best.r}"\nanswer'
        ),
        choices=tuple(name(c) for c in candidates),
        draw={"candidates": candidates, "spectrum": spectrum, "seed": seed},
    )


SETUP = (
    "import numpy as np\n\nfrom cdka import Components\nfrom cdka.theory import (\n    best_capture, delta_weight, "
    "measured_alignment, numerical_rank, rearrange, report,\n    simulated_gradient, "
    "singular_values, spectrum_values,\n)"
)
CHAPTER = Chapter(4, "Alignment", TEXT, 12, CONTROLS, PAGES, draw, question, draw_question, SETUP)
