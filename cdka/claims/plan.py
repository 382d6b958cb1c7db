"""A study as a sweep: its arms in each regime, with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cdka.claims.bases import bases_of
from cdka.claims.catalogue import RECIPE, SHORT_LOW, Study
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.shapes import ModelShapes
from cdka.models.targets import select
from cdka.runs.learning_rate import is_auto
from cdka.sweep.plan import Plan, plan
from cdka.tasks.catalogue import find_task

DEFAULT_MODEL, DEFAULT_TASK = "digits-vit", "digits-flip"
SEARCHES = {
    "searched": tuple(1.5**power for power in range(-3, 4)),
    "short search": tuple(1.5**power for power in (-2, -1, 0, 1, 2)),
    "two rates": (1.0, 3.0),
    "three rates": (0.5, 1.0, 2.0),
    "six rates": tuple(2.0**power for power in range(-3, 3)),
    "eight rates": tuple(2.0**power for power in range(-3, 5)),
}
"""The search of each regime that has one, as multiples of the recipe's learning rate."""
LOOKS = 5
"""About how often a run looks at the validation data: enough to draw its course, at a few per cent of its time."""


def regimes(task: str) -> dict[str, dict[str, Any]]:
    """The training regimes of a task: which steps, learning rate and alpha each name stands for.

    ``recipe`` is the task's; ``short low-rate low-alpha`` stops at 60 % of its steps, at two thirds of its rate and
    half its alpha, three changes at once: fixed before the studies over base models were run, but taken from version
    0.1.0, which chose it on one base after looking (ours). ``searched`` is the recipe with a learning-rate search;
    ``short search``, ``two rates``, ``three rates``, ``six rates`` and ``eight rates`` search with 60 % of its steps.
    """
    recipe = dict(find_task(task).recipe)
    steps, lr, alpha = recipe.get("steps", 200), recipe.get("lr", 1e-3), recipe.get("alpha", 64.0)
    whole = {"steps": steps, "lr": lr, "alpha": alpha}
    short = {**whole, "steps": max(1, round(0.6 * steps))}
    return {
        SHORT_LOW: {**short, "lr": lr * 2 / 3, "alpha": alpha / 2},
        RECIPE: whole,
        **{name: whole if name == "searched" else short for name in SEARCHES},
    }


def plan_study(
    study: Study,
    model: str = DEFAULT_MODEL,
    task: str = DEFAULT_TASK,
    *,
    seeds: int | Sequence[int] | None = None,
    settings: dict[str, Any] | None = None,
    preview: bool = False,
) -> Plan:
    """The plan of a study on a model and task, with ``study.seeds`` seeds unless others are given.

    A study that needs gradients measures them here, about ten seconds a base; ``preview`` does not, and puts random
    components in place of those that depend on them: for counts and estimates.

    Raises CdkaError where the model lacks what the study needs.
    """
    seeds = study.seeds if seeds is None else seeds
    given = {**study.settings, **(settings or {})}
    if is_auto(given):
        raise CdkaError("a study holds its arms at one learning rate, or searches it: got auto. Give a number.")
    if study.over_bases is not None:
        bases = bases_of(model)
        arms = (
            study.over_bases(bases, None if preview else task)
            if study.needs == "gradients"
            else study.over_bases(bases)
        )
        model = bases[0]
    else:
        bases = ()
        shapes = find_model(model)
        _check_needs(study, shapes)
        layers = select(shapes, given.get("target_modules", "all-linear"))
        arms = study.arms(layers, shapes.base_params)
    own = _regimes(study, task, given)
    plans = []
    for name, regime in own.items():
        tune_lr = [float(f"{regime['lr'] * factor:.3g}") for factor in SEARCHES.get(name, ())]
        plans.append(
            plan(
                model,
                task,
                arms=arms,
                seeds=seeds,
                baselines=study.baselines,
                tune_lr=tune_lr,
                settings={"eval_every": max(1, regime["steps"] // LOOKS), **given, **regime},
                name=study.name,
            )
        )
    runs = tuple(run for one in plans for run in one.runs)
    document = {
        **plans[0].document,
        "study": study.name,
        "regimes": own,
        "claim": study.claim,
        "given": dict(settings or {}),
        **({"bases": list(bases)} if bases else {}),
    }
    notes = tuple(dict.fromkeys(note for one in plans for note in one.notes))
    arms_planned = tuple(arm for one in plans for arm in one.arms)
    return Plan(f"study {study.name}", arms_planned, runs, notes, document)


def _regimes(study: Study, task: str, given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The regimes of a study with what was given in place of their own; those that this makes equal appear once."""
    found: dict[str, dict[str, Any]] = {}
    for name in study.regimes:
        regime = {key: given.get(key, value) for key, value in regimes(task)[name].items()}
        if regime not in found.values():
            found[name] = regime
    return found if len(found) == len(study.regimes) else {"given": next(iter(found.values()))}


def _check_needs(study: Study, shapes: ModelShapes) -> None:
    positions = dict(shapes.details).get("max_positions", 0)
    if study.needs == "context" and positions <= 8_192:
        raise CdkaError(
            f"study {study.name!r} needs a model with more than 8,192 positions: {shapes.name} has {positions:,}. "
            "Choose another with --model and a language task with --task."
        )
    if study.needs == "images" and not shapes.kind.startswith("image"):
        raise CdkaError(f"study {study.name!r} needs an image model: {shapes.name} is {shapes.kind}. Use digits-vit.")
