"""Chapter 6, your own design: a contest of real runs."""

from __future__ import annotations

from app import data
from app.learn import live
from app.learn.contest.arms import (
    BUDGETS,
    EVAL_EVERY,
    MODEL,
    NAMES,
    STEPS,
    SURE,
    TASK,
    TIE,
    arms,
    duel,
    ranked,
    solution,
    winner,
)
from app.learn.contest.figures import cover, design, stage
from app.learn.course import OURS, Chapter, Control, Equation, Page, Question, Try, Values
from app.words import percent
from cdka.runs.metrics import TEST_ACCURACY

SIDES = (1, 2, 4, 8, 16, 32, 64)
LIMIT = percent(SURE).replace(" ", "\u00a0")

CONTROLS = (
    Control(
        6, "budget", "Budget", "buttons", "lora:2", BUDGETS,
        help="The most trainable parameters: lora:2 is what LoRA of rank 2 costs on the same layers.",
    ),
    Control(6, "r1", "r1", "slider", 2, SIDES, views=("design", "field")),
    Control(6, "r2", "r2", "slider", 4, SIDES, views=("design", "field")),
    Control(6, "r", "r", "slider", 1, (1, 2, 3, 4, 5, 6), views=("design", "field")),
)  # fmt: skip


def _code(v: Values) -> str:
    return (
        f"options = explore({MODEL!r}, {v['budget']!r})\nmine = evaluate({MODEL!r}, {str(design(v))!r})\n"
        "print('budget', options.budget_params, 'mine', mine.num_params, 'fits', mine.num_params <= "
        "options.budget_params)\n"
        "options.top(5)"
    )


def _spent(v: Values) -> str:
    contest = arms(v["budget"], design(v), v["seed"])
    return rf"{contest[0].option.num_params:,}\ \le\ {solution(v['budget']).budget_params:,}".replace(",", r"\,")


def _alignment(v: Values) -> str:
    option = arms(v["budget"], design(v), v["seed"])[0].option
    return (
        rf"\text{{alignment}}={option.alignment:.3f}\ \text{{(over all layers)}}\\ \text{{rank}}\le "
        rf"<r:{option.r}>\cdot<r1:{option.r1}>\cdot<r2:{option.r2}>={option.r * option.r1 * option.r2}"
    )


PAGES = (
    Page(
        title="The challenge",
        text=f"""
*{MODEL}* reads upright digits. Its new task: the same digits transposed, mirrored and with inverted contrast.
It starts near chance. ((ours: the first point of each curve)) You get {STEPS} steps and a [[budget]].

**Design an adapter within the budget.** Against you: the [[solver]], which picks what its ranking puts first
(alignment, then rank), and LoRA of the same cost. ((ours: explore, below)) All three train with the same
recipe, data order and seed.

Under the picture you see what is known before training: the price, the predicted [[alignment]], the reachable
[[rank]].
""",
        code=_code,
        source=OURS,
        focus=("budget", "r1", "r2", "r"),
        equation=Equation(
            r"\sum_{\text{layers}}<r>\left(<r2>\tfrac{\text{out}}{<r1>}+<r1>\tfrac{\text{in}}{<r2>}"
            r"\right)\le\text{budget}",
            _spent,
        ),
        tries=(
            Try("Start from the paper's ratio", {"r1": 2, "r2": 8, "r": 1, "budget": "lora:4"}),
            Try("Start from 2, 4, 1", {"r1": 2, "r2": 4, "r": 1}),
        ),
        view="design",
    ),
    Page(
        title="Everything you could choose",
        text="""
Each dot is one setting that fits. To the right: more [[rank]]. Upwards: better [[alignment]]. Among equals, the
solver's first choice is the one furthest up and then furthest to the right.

Chapter 4 says: alignment rules the first steps. ((paper)) Chapter 2 says: rank is how many directions there are
in the end. ((textbook)) With a hundred steps, **which matters more?** Nobody knows before it is tried; that is
the point.

**Move your dot.** The dots at the top right have it all on paper, but they pay in arithmetic ((ours:
evaluate)), and the same few numbers have to serve all those directions. Do they train well?
""",
        code=_code,
        source=OURS,
        focus=("r1", "r2", "r"),
        equation=Equation(
            r"\text{alignment}\approx\sqrt{\tfrac{<r>\,<r2>}{<r1>\,\text{in}}}\\ \text{rank}\le <r>\,<r1>\,<r2>",
            _alignment,
        ),
        tries=(
            Try("Most alignment", {"r1": 8, "r2": 16, "r": 1, "budget": "lora:2"}),
            Try("Plain LoRA", {"r1": 1, "r2": 1, "r": 2, "budget": "lora:2"}),
            Try("In between", {"r1": 2, "r2": 2, "r": 2, "budget": "lora:2"}),
        ),
        view="field",
    ),
    Page(
        title="How it is judged",
        text=f"""
By accuracy on 597 test digits, read once at the end. ((ours: the test part of the task)) Two runs that differ
by one digit in a hundred have not shown anything, so a winner is named only where a paired test (McNemar's, on
the digits that one gets right and the other wrong) puts the chance of a fluke below {LIMIT}. ((cited:
McNemar, 1947)) Otherwise it is *{TIE.lower()}*.

Even then it is **one [[seed]]**. It says which adapter won this contest, not which design is better. For that,
run a [[sweep]] with several seeds in *Sweeps* and read the intervals in *Compare*.

The list shows what was tried on this machine so far.
""",
        code=lambda v: (
            f"c = {str(design(v))!r}\nspecs = [\n    spec_for({MODEL!r}, {TASK!r}, components=c, steps={STEPS}, "
            f"eval_every={EVAL_EVERY}),\n"
            f"    spec_for({MODEL!r}, {TASK!r}, components=explore({MODEL!r}, "
            f"{v['budget']!r}).top(1)[0].components, steps={STEPS}, "
            f"eval_every={EVAL_EVERY}),\n"
            f"    spec_for({MODEL!r}, {TASK!r}, method='lora', rank={v['budget'].partition(':')[2]}, "
            f"steps={STEPS}, eval_every={EVAL_EVERY}),\n]\n"
            "[spec.label for spec in specs]"
        ),
        source=OURS,
        focus=("budget",),
        view="tried",
    ),
)


def ask(seed: int, values: Values) -> Question:
    """Who wins: the learner's design, the solver's, LoRA? Answered by real runs."""
    budget, c = values["budget"], design(values)
    contest = arms(budget, c, seed)
    specs = [arm.spec for arm in contest]

    def runs():
        return dict(zip(NAMES, live.find(data.store(), specs), strict=True))

    def explain(answer: str) -> str:
        found = runs()
        order = ranked(found)
        told = ", ".join(f"{name} {found[name].metrics[TEST_ACCURACY]:.3f}" for name in order)
        first, second = found[order[0]], found[order[1]]
        p = 1.0 if first.run_id == second.run_id else duel(data.store(), first, second)
        verdict = "Too close to call" if answer == TIE else f"**{answer}** wins"
        return (
            f"{verdict}: {told}. McNemar between the first two: p = {p:.2g}. Change your design, or take another seed, "
            "and try again."
        )

    return Question(
        prompt=(
            f"Your design is `r1` = {c.r1}, `r2` = {c.r2}, `r` = {c.r}, with a budget of "
            f"{solution(budget).budget_params:,} parameters. "
            "**Who will win?** Then three real runs decide, some seconds each. To change the design, go back a page."
        ),
        answer=lambda: winner(data.store(), runs()),
        explain=explain,
        code=(
            "TRAIN = False  # True: three real runs, about a minute on a CPU\nanswer = None\nif TRAIN:\n"
            "    from cdka.engine.local import wait\n    from cdka.runs.store import Store\n\n    store = Store()\n"
            f"    run_ids = store.submit([spec.with_(seed={seed}) for spec in specs])\n    wait(store, run_ids)\n"
            "    answer = store.frame(run_ids)[['label', 'num_params', 'test/accuracy']]\nanswer"
        ),
        choices=(*NAMES, TIE),
        draw=contest,
        name=f"{budget}|{c}",
        begin=lambda: live.start(specs),
    )


CHAPTER = Chapter(
    number=6,
    short="Your design",
    title="Your own design",
    idea="Choose, predict, train: the same budget for you, the solver and LoRA.",
    minutes=8,
    controls=CONTROLS,
    pages=PAGES,
    stage=stage,
    ask=ask,
    cover=cover,
    setup="from cdka.runs.resolve import spec_for\nfrom cdka.solver import evaluate, explore",
    finish="That was the course. Design, Fine-tune and Compare are the same tools with all their controls.",
)
