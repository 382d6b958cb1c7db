"""Chapter 5, stability: its text and its exercise."""

from __future__ import annotations

import numpy as np

from app.learn.course import OURS, PAPER, Chapter, Control, Equation, Page, Question, Try, Values, seed_control
from app.learn.stability.figures import (
    DEMO,
    DEMO_SETTINGS,
    DEMO_STEPS,
    DEMO_TASK,
    GROW,
    LR,
    MODEL,
    RULES,
    SIDE,
    TEX,
    VALUES,
    configuration,
    cover,
    growth,
    sizes,
    stage,
)  # fmt: skip

CONTROLS = (
    Control(5, "grow", "What grows", "buttons", "r", GROW, views=("one", "rules")),
    Control(5, "rule", "Scaling", "buttons", "none", tuple(RULES), views=("rules",)),
    Control(5, "r1", "r1", "buttons", 1, (1, 4, 16), views=("one", "rules")),
    Control(5, "seed", "Seed", "seed", 0, help=seed_control(5).help, views=("one", "rules")),
)


def _code(v: Values) -> str:
    pick = {"r": "1, k", "r2": "k, 1", "r and r2": "k, k"}[v["grow"]]
    return (
        f"configurations = [Components({v['r1']}, {pick}) for k in {VALUES}]\n"
        f"rows = stability_experiment(configurations, out_features={SIDE}, in_features={SIDE}, lr={LR}, "
        f"seed={v['seed']})\n"
        "{rule: [round(row.output_rms * 1e3, 2) for row in rows if row.rule == rule] for rule in "
        "('none', 'r', 'sqrt_r', 'sqrt_r_r2')}"
    )


def _range(v: Values, rule: str) -> str:
    found = sizes(v["grow"], v["r1"], v["seed"])[rule]
    return rf"{_power(found[0])}\to{_power(found[-1])}:\ \times {growth(v['grow'], v['r1'], v['seed'], rule):.2g}"


def _power(value: float) -> str:
    mantissa, exponent = f"{float(value):.1e}".split("e")
    return rf"{mantissa}\cdot10^{{{int(exponent)}}}"


def _scalings(v: Values) -> str:
    last = configuration(v["grow"], VALUES[-1], v["r1"])
    rule = RULES[v["rule"]]
    name = (
        r"\text{none}"
        if rule == "none"
        else TEX[rule].replace(r"<r>\,<r2>", rf"<r:{last.r}>\cdot <r2:{last.r2}>").replace("<r>", f"<r:{last.r}>")
    )
    return rf"{name}={last.scaling(1.0, rule):.3g}\\ {_range(v, rule)}"


PAGES = (
    Page(
        title="The first step sets the size",
        text="""
All $B_i$ start at zero, so the first step makes all of $\\Delta W$. Adam divides each [[gradient]] by its own
size, so every number in $B_i$ moves by about the [[learning rate]], whatever the gradient is.
((cited: Kingma and Ba, Adam, 2015))

So the size of the first output does not depend on the problem. It depends on **how many terms are added up**:
`r` components, and `r2` columns in each.

The figure takes one such step and measures the [[RMS]] of what the adapter adds to the output. ((ours:
stability_experiment)) **Let `r` grow, then `r2`.**
""",
        code=_code,
        source=OURS,
        focus=("grow",),
        equation=Equation(
            r"B_i\leftarrow -\,\text{lr}\cdot\operatorname{sign}\!\left(\tfrac{\partial L}{\partial B_i}\right)",
            lambda v: rf"\text{{lr}}=10^{{-3}},\ \text{{RMS of the output:}}\\ {_range(v, 'none')}",
        ),
        tries=(Try("Both at once", {"grow": "r and r2"}),),
        view="one",
    ),
    Page(
        title="LoRA's two answers",
        text="""
The original LoRA divides by `r`. ((cited: Hu et al., 2021)) **Choose 1/r** with `r` growing: now the output
*shrinks*, by a factor of eight. The more you pay, the less your adapter says at first. ((ours:
stability_experiment))

[[rsLoRA]] divides by $\\sqrt r$ instead. ((cited: Kalajdzievski, 2023)) **Choose 1/√r**: flat. The terms point
in random directions, so $r$ of them add up to $\\sqrt r$, not to $r$.

Now **let `r2` grow** under 1/√r. LoRA has no `r2`, so its rule knows nothing of it.
""",
        code=_code,
        source=OURS,
        focus=("rule", "grow"),
        equation=Equation(
            r"\text{scaling}=\alpha\cdot\Big\{1,\ \tfrac{1}{<r>},\ \tfrac{1}{\sqrt{<r>}},\ \tfrac{1}{\sqrt{<r>\,"
            r"<r2>}}\Big\}",
            _scalings,
        ),
        tries=(
            Try("1/r, r grows", {"rule": "1/r", "grow": "r"}),
            Try("1/√r, r grows", {"rule": "1/√r", "grow": "r"}),
            Try("1/√r, r2 grows", {"rule": "1/√r", "grow": "r2"}),
        ),
        view="rules",
    ),
    Page(
        title="Count all the terms",
        text="""
One output number of an adapter is a sum over `r` · `r2` products of random sign. So it grows like
$\\sqrt{r\\,r_2}$, and the paper divides by exactly that: [[scaling]] = [[alpha]] / √(`r` `r2`). ((paper: its
training stabilisation))

**Choose it and let everything grow.** The line stays level. `r1` has no part in it: it only says how many
outputs share the same $B_i$. **Try `r1` = 16.**

With `r1` = 1 the line bends up at its far right end, to about twice. ((ours: stability_experiment)) There, 64
components share a space of `r1` · in / `r2` = 8 dimensions, and can no longer point in independent directions.
Real settings stay well below that.

What you gain is that one learning rate fits all settings, so that you compare designs and not luck with the
learning rate.
""",
        code=lambda v: (
            _code(v)
            + f"\n\nsame = stability_experiment(EXPERIMENT, ['sqrt_r_r2'], {SIDE}, {SIDE}, lr={LR}, seed={v['seed']})\n"
            "sizes = [row.output_rms for row in same]\nassert max(sizes) < 2 * min(sizes)"
        ),
        source=PAPER,
        focus=("rule", "r1"),
        equation=Equation(r"\text{scaling}=\frac{\alpha}{\sqrt{<r>\,<r2>}}", _scalings),
        tries=(Try("1/√(r r2), both grow", {"rule": "1/√(r r2)", "grow": "r and r2"}),),
        view="rules",
    ),
    Page(
        title="Does it matter in a real run?",
        text=f"""
The model *digits-vit* reads upright digits: 97 % right. ((ours: the first point of the runs beside)) Two
adapters with `r1` = {DEMO.r1}, `r2` = {DEMO.r2}, `r` = {DEMO.r} go on training it on the task that it already
knows. Nothing is left to learn; a careful method would leave it alone.

One run divides by √({DEMO.r2} · {DEMO.r}) = {(DEMO.r2 * DEMO.r) ** 0.5:.0f}, the other by nothing. All else is
equal: alpha {DEMO_SETTINGS["alpha"]:g}, learning rate {DEMO_SETTINGS["lr"]:g}, data order, seed.

**Train them**: some seconds each on a CPU. Without the factor the loss shoots past that of pure guessing: the run
diverges. ((ours: seeds 0 to 2, under test)) It does not run off to infinity, since layer norms keep what reaches
the last layer at one size and Adam's steps are bounded; so it may climb back, from far worse than where it began.
Both are ordinary [[run|runs]], kept with all others: change things in Fine-tune and see.
""",
        code=lambda v: (
            f"specs = [\n    spec_for({MODEL!r}, {DEMO_TASK!r}, components={str(DEMO)!r}, scaling_rule=rule, "
            f"steps={DEMO_STEPS},\n            seed=0, **{DEMO_SETTINGS!r})\n"
            "    for rule in ('sqrt_r_r2', 'none')\n]\n"
            "TRAIN = False  # True: two real runs, about a quarter of a minute each on a CPU\n"
            "if TRAIN:\n    from cdka.engine.local import wait\n    from cdka.runs.store import Store\n\n"
            "    store = Store()\n    run_ids = store.submit(specs)\n    wait(store, run_ids)\n"
            "    print(store.frame(run_ids)[['label', 'status', 'test/accuracy']])"
        ),
        source=OURS,
        view="runs",
    ),
)


ASKED = 16
"""How far the numbers grow in the exercise."""


def ask(seed: int, values: Values) -> Question:
    """By how much does the output grow from 1 to 16 under a rule? Measured by the experiment."""
    rng = np.random.default_rng([seed, 5])
    grow, rule = (
        ("r2", "sqrt_r"),
        ("r and r2", "sqrt_r"),
        ("r", "none"),
        ("r and r2", "none"),
        ("r2", "sqrt_r_r2"),
        ("r", "r"),
    )[int(rng.integers(6))]
    named = {value: key for key, value in RULES.items()}[rule].replace("none", "no scaling at all")
    what = {
        "r": "`r` grows from 1 to 16",
        "r2": "`r2` grows from 1 to 16",
        "r and r2": "`r` and `r2` both grow from 1 to 16",
    }[grow]

    def explain(answer: float) -> str:
        last = configuration(grow, ASKED, 1)
        terms = last.r * last.r2
        return (
            f"The number of terms grows {terms} times, so the sum grows about √{terms} = {terms**0.5:.0f} "
            f"times. The rule multiplies by "
            f"{last.scaling(1.0, rule):.3g}. Together {terms**0.5 * last.scaling(1.0, rule):.3g}; measured "
            f"**{answer:.3g}** "
            "(one Adam step takes the sign of the gradient, which is not quite random)."
        )

    return Question(
        prompt=(
            f"With **{named}**, {what}, all else 1. **By what factor does the output of the first step "
            f"change?** Above 1 it grows, below 1 it "
            "shrinks. Measured once, with this question's number as seed; within 25 % counts as close."
        ),
        answer=lambda: float(f"{growth(grow, 1, seed, rule, ASKED):.3g}"),
        explain=explain,
        code=(
            f"small, large = Components(*{configuration(grow, 1, 1).as_tuple()}), "
            f"Components(*{configuration(grow, ASKED, 1).as_tuple()})\n"
            f"rows = stability_experiment([small, large], [{rule!r}], {SIDE}, {SIDE}, lr={LR}, seed={seed})\n"
            "answer = float(f'{rows[1].output_rms / rows[0].output_rms:.3g}')\nanswer"
        ),
        unit="times",
        whole=False,
        high=1e4,
        draw={"grow": grow, "rule": rule, "r1": 1, "seed": seed},
    )


CHAPTER = Chapter(
    number=5,
    short="Stability",
    title="Stability",
    idea="The first step adds up r times r2 terms of random sign; dividing by the root of that keeps every "
    "setting at one size.",
    minutes=8,
    controls=CONTROLS,
    pages=PAGES,
    stage=stage,
    ask=ask,
    cover=cover,
    setup=(
        "from cdka import Components\nfrom cdka.runs.resolve import spec_for\nfrom cdka.theory import "
        "EXPERIMENT, stability_experiment"
    ),
    finish="You know why the scaling is what it is. Next: design one yourself and let it run.",
)
