"""Chapter 6, your own design: a contest of real runs."""

from __future__ import annotations

from math import isnan

from app import data
from app.learn import live, prose, toy
from app.learn.contest.arms import (
    BUDGETS,
    EVAL_EVERY,
    LORA,
    LORA_RATES,
    MINE,
    MODEL,
    NUM_SEEDS,
    RIVALS,
    STEPS,
    TASK,
    TWIN,
    contest,
    difference,
    results,
    seeds,
    solution,
)
from app.learn.contest.figures import TOY_LR, design, draw, draw_question
from app.learn.course import OURS, TEXTBOOK, Chapter, Control, Equation, Question, Try, Values, page
from app.learn.scoring import MAX_POINTS
from cdka.errors import CdkaError
from cdka.stats.intervals import Interval
from cdka.tasks import digits

TEXT = prose.read(__file__)
SIDES = (1, 2, 4, 8, 16, 32, 64)
NUM_TESTS = int((digits.table()["split"] == "test").sum())
CLOSE = 1.0
"""Percentage points within which a prediction earns full marks."""
_DESIGNING = ("design", "field", "race")

CONTROLS = (
    Control(
        6,
        "budget",
        "Budget",
        "buttons",
        "lora:4",
        BUDGETS,
        views=("design", "field", "tried"),
        help="The most trainable parameters: lora:4 is what LoRA of rank 4 costs on the same layers.",
    ),
    Control(6, "r1", "r1", "slider", 8, SIDES, views=_DESIGNING),
    Control(6, "r2", "r2", "slider", 16, SIDES, views=_DESIGNING),
    Control(6, "r", "r", "slider", 3, (1, 2, 3, 4, 5, 6), views=_DESIGNING),
    Control(6, "rival", "Your bet is against", "buttons", "the twin", tuple(RIVALS), views=("design", "field")),
)


def _code(v: Values) -> str:
    c = design(v)
    return (
        f"c, budget = Components({c.r1}, {c.r2}, {c.r}), {v['budget']!r}\ntwin = Components(c.r2, c.r1, c.r)\n"
        f"options = explore({MODEL!r}, budget)\nmine, other = evaluate({MODEL!r}, c), evaluate({MODEL!r}, twin)\n"
        "lora = options.preset('lora')\n"
        "for name, option in (('mine', mine), ('twin', other), ('lora', lora)):\n"
        "    print(f'{name:5} {str(option.components):8} {option.num_params:7,} of {options.budget_params:,} '\n"
        "          f'rank {option.rank_bound:4} alignment {option.alignment:.3f}')"
    )


def _spent(v: Values) -> str:
    arms = contest(v["budget"], design(v))
    return rf"{arms[0].option.num_params:,}\ \le\ {solution(v['budget']).budget_params:,}".replace(",", r"\,")


def _alignment(v: Values) -> str:
    option = contest(v["budget"], design(v))[0].option
    return (
        rf"\text{{alignment}}={option.alignment:.3f}\ \text{{(over all layers)}}\\ \text{{rank}}\le "
        rf"<r:{option.r}>\cdot<r1:{option.r1}>\cdot<r2:{option.r2}>={option.r * option.r1 * option.r2}"
    )


def _specs(v: Values) -> str:
    c = design(v)
    return (
        f"specs = []\nfor seed in {seeds(int(v.get('seed', 0)))}:\n"
        f"    for c in ('{c}', '{c.r2},{c.r1},{c.r}'):\n"
        f"        specs.append(spec_for({MODEL!r}, {TASK!r}, components=c, seed=seed, steps={STEPS}, "
        f"eval_every={EVAL_EVERY}))\n"
        f"    rate = specs[-1].lr\n    for factor in {LORA_RATES}:\n"
        f"        specs.append(spec_for({MODEL!r}, {TASK!r}, "
        f"components='1,1,{v['budget'].partition(':')[2]}', seed=seed,\n"
        f"                             lr=rate * factor, steps={STEPS}, eval_every={EVAL_EVERY}))\n"
        "len(specs), specs[0].label, specs[1].label, specs[2].label"
    )


def _race_code(v: Values) -> str:
    """The small network of chapter 5, trained for each contestant."""
    c = design(v)
    opening, loop = toy.CELL.split("A, B, state = ", 1)
    lines = "A, B, state = " + loop.removesuffix("\naccuracies[-1]")
    body = "\n".join("    " + line if line else "" for line in lines.splitlines())
    return (
        f"alpha, lr, rule = 16.0, {TOY_LR}, 'sqrt_r_r2'\n{opening}\n"
        f"contestants = {{'mine': Components({c.r1}, {c.r2}, {c.r}), 'twin': Components({c.r2}, {c.r1}, {c.r}),\n"
        f"               'lora': Components(1, 1, max(1, Components({c.r1}, {c.r2}, "
        f"{c.r}).num_params(64, 64) // 128))}}\n"
        f"curves = {{}}\nfor name, c in contestants.items():\n    rng = np.random.default_rng(0)\n{body}\n"
        "    curves[name] = accuracies\n{name: row[-1] for name, row in curves.items()}"
    )


PAGES = (
    page(
        TEXT,
        "challenge",
        fields={"model": MODEL, "steps": STEPS},
        code=_code,
        plot=lambda v: (
            "bars('Predicted alignment', {'mine': mine.alignment, 'twin': other.alignment, 'LoRA': lora.alignment})"
        ),
        source=OURS,
        focus=("budget", "r1", "r2", "r"),
        equation=Equation(
            r"\sum_{\text{layers}}<r>\left(<r2>\tfrac{\text{out}}{<r1>}+<r1>\tfrac{\text{in}}{<r2>}"
            r"\right)\le\text{budget}",
            _spent,
        ),
        tries=(
            Try("8, 16, 3 and its twin", {"r1": 8, "r2": 16, "r": 3, "budget": "lora:4"}),
            Try("2, 4, 3", {"r1": 2, "r2": 4, "r": 3, "budget": "lora:4"}),
            Try("The recommended ratio: 2, 8, 1", {"r1": 2, "r2": 8, "r": 1, "budget": "lora:4"}),
        ),
        view="design",
    ),
    page(
        TEXT,
        "field",
        fields={"steps": STEPS},
        code=_code,
        plot=lambda v: (
            "lines('Everything that fits: alignment against rank', "
            "{'settings': (options.columns.rank_bound, options.columns.alignment)}, dots=True)"
        ),
        source=OURS,
        focus=("r1", "r2", "r", "rival"),
        equation=Equation(
            r"\text{alignment}\approx\sqrt{\tfrac{<r>\,<r2>}{<r1>\,\text{in}}}\\ \text{rank}\le <r>\,<r1>\,<r2>",
            _alignment,
        ),
        tries=(
            Try("Most alignment and rank", {"r1": 8, "r2": 16, "r": 3, "budget": "lora:4"}),
            Try("The same alignment, less rank", {"r1": 2, "r2": 4, "r": 3, "budget": "lora:4"}),
            Try("Plain LoRA", {"r1": 1, "r2": 1, "r": 4, "budget": "lora:4"}),
        ),
        view="field",
    ),
    page(
        TEXT,
        "race",
        code=_race_code,
        plot=lambda v: "lines('Validation accuracy', {name: (range(0, 151, 5), row) for name, row in curves.items()})",
        source=OURS,
        focus=("r1", "r2"),
        view="race",
    ),
    page(
        TEXT,
        "judged",
        fields={
            "tests": NUM_TESTS,
            "seeds": f"{', '.join(map(str, seeds(0)[:-1]))} and {seeds(0)[-1]} (other questions take others)",
        },
        code=_specs,
        plot=lambda v: "bars('Learning rates in the contest', {spec.label: spec.lr for spec in specs})",
        source=TEXTBOOK,
        focus=("budget",),
        view="tried",
    ),
)


def question(seed: int, values: Values) -> Question:
    """By how many points the learner's design beats its rival: answered by real runs."""
    budget, c = values["budget"], design(values)
    arms = contest(budget, c, seed)
    specs = [spec for arm in arms for spec in arm.specs]
    rival = RIVALS[values["rival"]]
    if rival not in [arm.name for arm in arms]:
        raise CdkaError(
            f"a bet against the twin needs r1 other than r2: got {c}. Change the design, or bet against LoRA."
        )

    def found():
        return results(data.store(), arms, live.find(data.store(), specs))

    def interval() -> Interval:
        return difference(found(), rival)

    def points(prediction: float, answer: float) -> int:
        inside = interval()
        off, half = abs(prediction - answer), (inside.high - inside.low) / 2
        if off <= max(CLOSE, half / 2):
            return MAX_POINTS
        return 2 if off <= half else 1 if prediction * answer > 0 else 0

    def explain(answer: float) -> str:
        done, inside = found(), interval()
        listed = ", ".join(f"{name} {result.mean:.3f}" for name, result in done.items())
        if isnan(inside.low):
            verdict = "all seeds agree to the digit, so there is no spread to judge by"
        elif inside.low <= 0 <= inside.high:
            verdict = "the interval holds zero, so the runs do not decide"
        else:
            verdict = "yours is ahead" if answer > 0 else f"{rival} is ahead"
        return TEXT.part(
            "explanation",
            listed=listed,
            rival=_in_text(rival),
            difference=f"{answer:+.1f}",
            low=f"{inside.low:+.1f}",
            high=f"{inside.high:+.1f}",
            seeds=NUM_SEEDS,
            verdict=verdict,
            rates=f"LoRA's rate: {done[LORA].lr:g}; yours: {done[MINE].lr:g}.",
        )

    def hint(prediction: float, answer: float) -> str:
        return TEXT.part("hint: sign" if prediction * answer < 0 else "hint: size")

    return Question(
        prompt=TEXT.part(
            "question",
            r1=c.r1,
            r2=c.r2,
            r=c.r,
            params=f"{arms[0].option.num_params:,}",
            budget=f"{solution(budget).budget_params:,}",
            rival=_in_text(rival),
        ),
        answer=lambda: None if found() is None else round(interval().mean, 1),
        explain=explain,
        hint=hint,
        points=points,
        code=(
            "TRAIN = False  # True: real runs, about a minute on a CPU\nanswer = None\nif TRAIN:\n"
            "    from cdka.engine.local import wait\n    from cdka.runs.store import Store\n\n    store = Store()\n"
            "    run_ids = store.submit(specs, packs=[0] * len(specs))\n    wait(store, run_ids)\n"
            "    frame = store.frame(run_ids)[['label', 'lr', 'test/accuracy']]\n"
            "    answer = frame.groupby(['label', 'lr'])['test/accuracy'].agg(['mean', 'std', 'count'])\nanswer"
        ),
        unit="points",
        whole=False,
        low=-100,
        high=100,
        draw=arms,
        name=f"{budget}|{c}|{rival}",
        begin=lambda: live.start(specs),
    )


def _in_text(rival: str) -> str:
    return "its twin" if rival == TWIN else "LoRA"


SETUP = (
    "import numpy as np\n\nfrom cdka import Components\nfrom cdka.runs.resolve import spec_for\n"
    "from cdka.solver import evaluate, explore\n"
    "from cdka.theory import delta_weight, kaiming_components, rearrange"
)
CHAPTER = Chapter(6, "Your design", TEXT, 9, CONTROLS, PAGES, draw, question, draw_question, SETUP)
