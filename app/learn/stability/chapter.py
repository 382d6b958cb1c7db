"""Chapter 5, stability: its pages and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn import evidence, prose, toy
from app.learn.course import CITED, CODE, OURS, Chapter, Control, Equation, Question, Try, Values, page, seed_control
from app.learn.scoring import MAX_POINTS, by_ratio
from app.learn.stability.figures import (
    ASKED_R1,
    ASKED_SIDE,
    DEMO,
    DEMO_SETTINGS,
    DEMO_STEPS,
    DEMO_TASK,
    DRAWS,
    GROW,
    INPUTS,
    LR,
    MODEL,
    RULES,
    SIDE,
    TEX,
    TOKENS,
    TOY,
    TOY_ALPHA,
    TOY_RATES,
    VALUES,
    configuration,
    draw,
    draw_question,
    draws,
    growth,
    sizes,
)

TEXT = prose.read(__file__)
STUDIES = tuple(evidence.rate_studies()) or ("none",)
PAPER_RULE, NEW = "1/√(r r2)", next(iter(INPUTS))
_BOTH = {"own": PAPER_RULE, "both": GROW[-1]}

CONTROLS = (
    Control(5, "grow", "What grows", "buttons", "r", GROW, views=("one", "rules")),
    Control(5, "both", "What grows", "buttons", GROW[-1], GROW, views=("terms",)),
    Control(5, "rule", "Scaling", "buttons", "1/r", tuple(RULES), views=("rules",)),
    Control(5, "own", "Scaling", "buttons", PAPER_RULE, tuple(RULES), views=("terms",)),
    Control(5, "inputs", "Inputs", "buttons", NEW, tuple(INPUTS), views=("terms",)),
    Control(5, "r1", "r1", "buttons", 16, (1, 4, 16), views=("one", "rules", "terms")),
    Control(5, "toy_lr", "Learning rate", "buttons", "0.003", TOY_RATES, views=("toy",)),
    Control(5, "study", "Study", "select", STUDIES[0], STUDIES, views=("rates",)),
    seed_control(5, ("one", "rules", "terms")),
)


def _code(grow: str, r1: int, seed: int, source: str = "") -> str:
    pick = {"r": "1, k", "r2": "k, 1", "r and r2": "k, k"}[grow]
    return (
        f"values = {VALUES}\nconfigurations = [Components({r1}, {pick}) for k in values]\n"
        f"rows = stability_experiment(configurations, out_features={SIDE}, in_features={SIDE}, lr={LR}, "
        f"seed={seed}{source})\n"
        "sizes = {rule: [row.output_rms for row in rows if row.rule == rule] for rule in "
        "('none', 'r', 'sqrt_r', 'sqrt_r_r2')}\n"
        "{rule: round(row[-1] / row[0], 2) for rule, row in sizes.items()}"
    )


_SIZES = "lines('Output after one step', {rule: (values, row) for rule, row in sizes.items()}, log=True)"


def _power(value: float) -> str:
    mantissa, exponent = f"{float(value):.1e}".split("e")
    return rf"{mantissa}\cdot10^{{{int(exponent)}}}"


def _range(grow: str, v: Values, rule: str, inputs: str | None = None) -> str:
    found = sizes(grow, v["r1"], v["seed"], inputs)[rule]
    times = growth(grow, v["r1"], v["seed"], rule, inputs=inputs)
    return rf"{_power(found[0])}\to{_power(found[-1])}:\ \times {times:.2g}"


def _scalings(grow: str, v: Values, rule: str, inputs: str | None = None) -> str:
    last = configuration(grow, VALUES[-1], v["r1"])
    name = (
        r"\text{none}"
        if rule == "none"
        else TEX[rule].replace(r"<r>\,<r2>", rf"<r:{last.r}>\cdot <r2:{last.r2}>").replace("<r>", f"<r:{last.r}>")
    )
    return rf"{name}={last.scaling(1.0, rule):.3g}\\ {_range(grow, v, rule, inputs)}"


PAGES = (
    page(
        TEXT,
        "size",
        code=lambda v: _code(v["grow"], v["r1"], v["seed"]),
        plot=lambda v: _SIZES,
        source=OURS,
        focus=("grow",),
        equation=Equation(
            r"B_i\leftarrow -\,\text{lr}\cdot\operatorname{sign}\!\left(\tfrac{\partial L}{\partial B_i}\right)",
            lambda v: rf"\text{{lr}}=10^{{-3}},\ \text{{RMS of the output:}}\\ {_range(v['grow'], v, 'none')}",
        ),
        tries=(Try("r grows", {"grow": "r"}), Try("r2 grows", {"grow": "r2"}), Try("Both grow", {"grow": "r and r2"})),
        view="one",
    ),
    page(
        TEXT,
        "lora",
        code=lambda v: _code(v["grow"], v["r1"], v["seed"]),
        plot=lambda v: _SIZES,
        source=CITED,
        focus=("rule", "grow"),
        equation=Equation(
            r"\text{scaling}=\alpha\cdot\Big\{1,\ \tfrac{1}{<r>},\ \tfrac{1}{\sqrt{<r>}},\ \tfrac{1}{\sqrt{<r>\,"
            r"<r2>}}\Big\}",
            lambda v: _scalings(v["grow"], v, RULES[v["rule"]]),
        ),
        tries=(
            Try("1/r, r grows", {"rule": "1/r", "grow": "r"}),
            Try("1/√r, r grows", {"rule": "1/√r", "grow": "r"}),
            Try("1/√r, r2 grows", {"rule": "1/√r", "grow": "r2"}),
        ),
        view="rules",
    ),
    page(
        TEXT,
        "terms",
        code=lambda v: (
            f"inputs = {INPUTS[v['inputs']]!r}\n"
            + _code(v["both"], v["r1"], v["seed"], f", gradient_tokens={TOKENS}, inputs=inputs")
        ),
        plot=lambda v: _SIZES,
        source=CODE,
        focus=("inputs", "own", "both", "r1"),
        equation=Equation(
            r"\text{scaling}=\frac{\alpha}{\sqrt{<r>\,<r2>}}",
            lambda v: _scalings(v["both"], v, RULES[v["own"]], v["inputs"]),
        ),
        tries=(
            Try("New inputs", {"inputs": NEW, "r1": 16, **_BOTH}),
            Try("New inputs, r1 = 1", {"inputs": NEW, "r1": 1, **_BOTH}),
            Try("The training batch", {"inputs": "the training batch", "r1": 16, **_BOTH}),
        ),
        view="terms",
    ),
    page(
        TEXT,
        "toy",
        code=lambda v: (
            f"c, rule, alpha, lr = Components{TOY.as_tuple()}, 'sqrt_r_r2', {TOY_ALPHA}, {v['toy_lr']}\n{toy.CELL}"
        ),
        plot=lambda v: "lines('Validation accuracy', {rule: (range(0, 151, 5), accuracies)})",
        source=OURS,
        focus=("toy_lr",),
        equation=Equation(
            r"\Delta W\ \text{after one step}\ \propto\ \text{lr}\cdot\text{scaling}",
            lambda v: (
                rf"{v['toy_lr']}\cdot\frac{{{TOY_ALPHA:g}}}{{\sqrt{{<r:{TOY.r}>\cdot <r2:{TOY.r2}>}}}}="
                rf"{float(v['toy_lr']) * TOY.scaling(TOY_ALPHA):.3g}\quad\text{{or}}\quad "
                rf"{v['toy_lr']}\cdot {TOY_ALPHA:g}={float(v['toy_lr']) * TOY_ALPHA:.3g}"
            ),
        ),
        view="toy",
    ),
    page(
        TEXT,
        "runs",
        fields={
            "r1": DEMO.r1,
            "r2": DEMO.r2,
            "r": DEMO.r,
            "root": f"{(DEMO.r2 * DEMO.r) ** 0.5:.0f}",
            "alpha": f"{DEMO_SETTINGS['alpha']:g}",
            "lr": f"{DEMO_SETTINGS['lr']:g}",
        },
        code=lambda v: (
            f"specs = [\n    spec_for({MODEL!r}, {DEMO_TASK!r}, components={str(DEMO)!r}, scaling_rule=rule, "
            f"steps={DEMO_STEPS},\n            seed=0, **{DEMO_SETTINGS!r})\n"
            "    for rule in ('sqrt_r_r2', 'none')\n]\n"
            "TRAIN = False  # True: two real runs, about a quarter of a minute each on a CPU\n"
            "if TRAIN:\n    from cdka.engine.local import wait\n    from cdka.runs.store import Store\n\n"
            "    store = Store()\n    run_ids = store.submit(specs)\n    wait(store, run_ids)\n"
            "    print(store.frame(run_ids)[['label', 'status', 'test/accuracy']])"
        ),
        plot=lambda v: "bars('Scaling of the two runs', {spec.scaling_rule: spec.scaling for spec in specs})",
        source=OURS,
        view="runs",
    ),
    page(
        TEXT,
        "rates",
        code=lambda v: (
            f"report = (assets_dir() / 'studies' / {v['study'] + '.md'!r}).read_text(encoding='utf-8')\n"
            "rows = re.findall(r'^\\| (.+?) · lr ([\\d.]+) \\| [\\d,]+ \\| ([\\d.]+) ', report, re.M)\n"
            "designs = {}\nfor design, lr, accuracy in rows:\n"
            "    designs.setdefault(design, []).append((float(lr), float(accuracy)))\n"
            "{design: max(row, key=lambda point: point[1]) for design, row in designs.items()}"
        ),
        plot=lambda v: (
            "lines('Test accuracy against learning rate', {d: tuple(zip(*sorted(row))) for d, row in designs.items()})"
        ),
        source=OURS,
        focus=("study",),
        view="rates",
    ),
)

ASKED = (4, 8, 16, 32)
KINDS = (
    ("r2", "sqrt_r"),
    ("r and r2", "sqrt_r"),
    ("r", "none"),
    ("r2", "none"),
    ("r and r2", "none"),
    ("r2", "sqrt_r_r2"),
    ("r", "sqrt_r"),
    ("r", "r"),
    ("r and r2", "r"),
)
"""The growing factor and the rule that are asked for; the factor grows from 1 to one of ASKED."""
TOLERANCE = 0.10


def question(seed: int, values: Values) -> Question:
    """The factor by which the output grows under a rule, the mean of many random draws of the experiment."""
    rng = np.random.default_rng([seed, 5])
    grow, rule = KINDS[int(rng.integers(len(KINDS)))]
    top = ASKED[int(rng.integers(len(ASKED)))]
    named = {value: key for key, value in RULES.items()}[rule].replace("none", "no scaling at all")
    what = {
        "r": f"`r` grows from 1 to {top}",
        "r2": f"`r2` grows from 1 to {top}",
        "r and r2": f"`r` and `r2` both grow from 1 to {top}",
    }[grow]
    last = configuration(grow, top, ASKED_R1)
    terms, factor = last.r * last.r2, last.scaling(1.0, rule)

    def measured() -> np.ndarray:
        return draws(grow, rule, top, seed)

    def points(prediction: float, answer: float) -> int:
        found = measured()
        spread = 2.0 * float(found.std(ddof=1)) / DRAWS**0.5
        off = abs(prediction - answer)
        return MAX_POINTS if off <= max(spread, TOLERANCE * answer) else by_ratio(prediction, answer)

    def explain(answer: float) -> str:
        found = measured()
        return TEXT.part(
            "explanation",
            terms=terms,
            root=f"{terms**0.5:.3g}",
            factor=f"{factor:.3g}",
            together=f"{terms**0.5 * factor:.3g}",
            answer=f"{answer:.3g}",
            draws=DRAWS,
            low=f"{found.min():.3g}",
            high=f"{found.max():.3g}",
        )

    def hint(prediction: float, answer: float) -> str:
        def near(value: float) -> bool:
            return prediction > 0 and abs(np.log(prediction / value)) < 0.12

        if near(1 / answer) and not near(answer):
            return TEXT.part("hint: inverse")
        if near(terms) or near(terms * factor):
            return TEXT.part("hint: terms")
        return TEXT.part("hint: rule" if near(terms**0.5) else "hint: other")

    return Question(
        prompt=TEXT.part("question", rule=named, what=what, draws=DRAWS, r1=ASKED_R1),
        answer=lambda: float(f"{measured().mean():.3g}"),
        explain=explain,
        hint=hint,
        points=points,
        code=(
            f"small = Components(*{configuration(grow, 1, ASKED_R1).as_tuple()})\n"
            f"large = Components(*{last.as_tuple()})\n"
            f"ratios = []\nfor draw in range({DRAWS}):\n"
            f"    first, second = stability_experiment([small, large], [{rule!r}], {ASKED_SIDE}, {ASKED_SIDE}, "
            f"lr={LR}, seed={seed} + 10_000 * draw)\n"
            "    ratios.append(second.output_rms / first.output_rms)\n"
            "answer = float(f'{np.mean(ratios):.3g}')\nanswer"
        ),
        unit="times",
        whole=False,
        high=1e4,
        draw=(grow, rule, top, seed),
    )


SETUP = (
    "import re\n\nimport numpy as np\n\nfrom cdka import Components\nfrom cdka.paths import assets_dir\n"
    "from cdka.runs.resolve import spec_for\n"
    "from cdka.theory import delta_weight, kaiming_components, rearrange, stability_experiment"
)
CHAPTER = Chapter(5, "Stability", TEXT, 11, CONTROLS, PAGES, draw, question, draw_question, SETUP)
