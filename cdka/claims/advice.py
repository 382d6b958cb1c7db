"""Studies of what the product advises and goes by: the option to take, components per module, alignment. (ours)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
import pandas as pd

from cdka.align.gradient_pattern import measure_pattern
from cdka.claims.bases import FAMILIES, arm_of, evidence_over_bases
from cdka.claims.evidence import Case, Evidence
from cdka.components import Components, divisors
from cdka.cost.adapter import num_params
from cdka.models.catalogue import find_model
from cdka.models.shapes import LinearShape
from cdka.models.targets import paths_of, select
from cdka.runs.metrics import EVAL_ACCURACY
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import KEPT
from cdka.solver import default, solve
from cdka.stats.rank_correlation import MIN_POINTS, spearman
from cdka.theory.alignment import combine

BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Ranks of LoRA whose parameters are the budgets that the advice is tried at."""
MAX_TRIED = 64
"""The largest r1 and r2 of drawn and spread options."""
GRADIENT_BUDGET = 4
"""The rank of LoRA whose parameters are the budget of components per module."""
_ORDER = {name: i for family in FAMILIES.values() for i, name in enumerate(family)}


def advised(bases: Sequence[str]) -> list[dict[str, Any]]:
    """At every budget on every base: the option that is advised, LoRA of equal cost, and a random option of that."""
    return [
        {"model": base, "components": one}
        for i, base in enumerate(sorted(bases))
        for row in advice_rows(base, _ORDER.get(base, i))
        for one in dict.fromkeys(row)
    ]


def advice_rows(base: str, draw: int) -> list[tuple[Components, Components, Components]]:
    """(advised, LoRA, random) for each budget of ``BUDGETS`` on a base; ``draw`` seeds the random option.

    The random option is neither of the others and uses at least four fifths of the budget.
    """
    layers = list(select(find_model(base)))
    rows = []
    for rank in BUDGETS:
        best = default(layers, f"lora:{rank}").components
        lora = Components(1, 1, rank)
        budget = num_params(layers, lora)
        others = [o.components for o in solve(layers, budget) if o.num_params >= 0.8 * budget]
        others = sorted(one for one in others if one not in (best, lora) and one.r1 * one.r2 > 1 and one.r2 <= 64)
        rows.append((best, lora, others[np.random.default_rng([draw, rank]).integers(len(others))]))
    return rows


def _advice_over(opponent: int, name: str) -> Callable[[Case], Evidence]:
    """Per base, the mean over budgets of the advised option minus another one, and how often it wins."""

    def rule(case: Case) -> Evidence:
        compared, values, won, played = case.compared(), {}, 0, 0
        for i, base in enumerate(sorted(set(compared.arms["model"]))):
            gains = []
            for row in advice_rows(base, _ORDER.get(base, i)):
                arms = [arm_of(compared, base, row[0]), arm_of(compared, base, row[opponent])]
                if row[0] != row[opponent] and all(arms):
                    gains.append(float((compared.table.loc[arms[0]] - compared.table.loc[arms[1]]).mean()))
            if gains and np.isfinite(gains).all():
                values[base] = float(np.mean(gains))
                won, played = won + sum(gain > 0 for gain in gains), played + len(gains)
        remark = f" It wins {won} of {played}, budgets and bases together." if played else ""
        what = f"{case.measure} of the advised option over {name}, mean over budgets"
        found = evidence_over_bases(case, pd.Series(values, dtype=float), what, remark=remark)
        return replace(found, better=(won, played))

    return rule


Arm = tuple[Components, dict[str, Components], str]
"""Components, those of single modules, and the start of the factors."""


def by_gradient(bases: Sequence[str], task: str | None) -> list[dict[str, Any]]:
    """At the parameters of LoRA rank 4 on every base: the pattern of its gradient, a random pattern of that cost, the
    advised option and LoRA everywhere; the first and the last also started from the gradient.

    Without a task no gradient is measured: the random pattern stands for its pattern too.
    """
    arms = []
    for base in bases:
        advised_option, lora, drawn = _references(base)
        found = None if task is None else measure_pattern(base, task, f"lora:{GRADIENT_BUDGET}")
        ours = drawn if found is None else (found.default, found.component_pattern())
        for components, pattern, init in (
            (*ours, "kaiming"),
            (*drawn, "kaiming"),
            (advised_option, {}, "kaiming"),
            (lora, {}, "kaiming"),
            (*ours, "gradient"),
            (lora, {}, "gradient"),
        ):
            arms.append({"model": base, "components": components, "component_pattern": pattern, "init_weights": init})
    return arms


@lru_cache(maxsize=16)
def _references(base: str) -> tuple[Components, Components, tuple[Components, dict[str, Components]]]:
    """The advised option, LoRA, and the random pattern of a base."""
    layers = list(select(find_model(base)))
    lora = Components(1, 1, GRADIENT_BUDGET)
    rng = np.random.default_rng(_ORDER.get(base, len(_ORDER)))
    return (
        default(layers, f"lora:{GRADIENT_BUDGET}").components,
        lora,
        random_pattern(layers, num_params(layers, lora), rng),
    )


def random_pattern(
    layers: Sequence[LinearShape], budget: int, rng: np.random.Generator
) -> tuple[Components, dict[str, Components]]:
    """Random (r1, r2) for every module, cheap enough to share the budget, and components added at random until nothing
    more fits: the default components, and those of each module by its path as ``component_pattern`` wants them."""
    modules = [(paths[0], layer) for layer in layers for paths in paths_of(layer)]
    fair = budget / len(modules)
    chosen = []
    for _, layer in modules:
        pairs = [
            Components(r1, r2, 1)
            for r1 in divisors(layer.out_features)
            for r2 in divisors(layer.in_features)
            if max(r1, r2) <= MAX_TRIED
            and Components(r1, r2, 1).num_params(layer.out_features, layer.in_features) <= fair
        ]
        chosen.append(pairs[rng.integers(len(pairs))])
    while True:
        spent = sum(c.num_params(s.out_features, s.in_features) for c, (_, s) in zip(chosen, modules, strict=True))
        able = [
            i
            for i, (_, s) in enumerate(modules)
            if Components(chosen[i].r1, chosen[i].r2, 1).num_params(s.out_features, s.in_features) <= budget - spent
        ]
        if not able:
            break
        i = able[rng.integers(len(able))]
        chosen[i] = Components(chosen[i].r1, chosen[i].r2, chosen[i].r + 1)
    pattern = {path.replace(".", r"\."): one for (path, _), one in zip(modules, chosen, strict=True)}
    return Components(1, 1, 1), pattern


def _kind(spec: RunSpec) -> str:
    """The arm of the study that a run belongs to."""
    _, lora, (_, drawn) = _references(spec.model)
    if spec.component_pattern:
        name = "random pattern" if dict(spec.component_pattern) == drawn else "pattern"
    else:
        name = "LoRA" if spec.components == lora else "advised option"
    return name + (" from the gradient" if spec.init_weights == "gradient" else "")


def _by_kind(case: Case) -> pd.DataFrame:
    """The metric by base and arm, each arm at the rate that was best on its base's validation data, mean over seeds."""
    chosen: dict[tuple[str, str], dict[float, list[Run]]] = {}
    for run in case.runs:
        if run.status in KEPT:
            cell = chosen.setdefault((run.spec.model, _kind(run.spec)), {})
            cell.setdefault(run.spec.lr, []).append(run)

    def mean(runs: list[Run], metric: str) -> float:
        return float(np.mean([(run.metrics or {}).get(metric, np.nan) for run in runs]))

    out: dict[str, dict[str, float]] = {}
    for (base, kind), by_rate in chosen.items():
        best = max(by_rate.values(), key=lambda runs: np.nan_to_num(mean(runs, EVAL_ACCURACY), nan=-np.inf))
        out.setdefault(kind, {})[base] = mean(best, case.metric)
    return pd.DataFrame(out)


def _pattern_over(opponent: str, start: str = "") -> Callable[[Case], Evidence]:
    """Per base, the pattern of its gradient minus another choice of equal cost."""

    def rule(case: Case) -> Evidence:
        found = _by_kind(case)
        mine, other = f"pattern{start}", f"{opponent}{start}"
        what = f"{case.measure} of the {mine} over {opponent}"
        if mine not in found or other not in found:
            return evidence_over_bases(case, pd.Series(dtype=float), what)
        return evidence_over_bases(case, found[mine] - found[other], what)

    return rule


NUM_EQUAL, EQUAL_WITHIN = 30, 0.07
"""Configurations of the study of predictors, and how far their parameters may lie from those of LoRA rank 8."""


@lru_cache(maxsize=16)
def equal_parameters(base: str) -> tuple[Components, ...]:
    """Thirty configurations of equal parameters on a base, spread evenly over alignment and, within it, over rank."""
    layers = list(select(find_model(base)))
    budget = num_params(layers, Components(1, 1, 8))
    sizes = {axis: gcd(*(getattr(layer, axis) for layer in layers)) for axis in ("out_features", "in_features")}
    found = []
    for r1 in divisors(sizes["out_features"]):
        for r2 in divisors(sizes["in_features"]):
            one = num_params(layers, Components(r1, r2, 1))
            r = round(budget / one)
            if r and max(r1, r2) <= MAX_TRIED and abs(r * one / budget - 1) <= EQUAL_WITHIN:
                found.append(Components(r1, r2, r))
    found.sort(key=lambda c: _predictors(layers, c))
    places = np.linspace(0, len(found) - 1, min(NUM_EQUAL, len(found))).round().astype(int)
    return tuple(found[i] for i in dict.fromkeys(places.tolist()))


def _predictors(layers: Sequence[LinearShape], components: Components) -> tuple[float, float]:
    """The predicted alignment, and the mean bound on the rank over modules."""
    modules = [layer for layer in layers for _ in range(layer.count)]
    ranks = [components.rank_bound(layer.out_features, layer.in_features) for layer in modules]
    return combine(components.alignment(layer.in_features) for layer in modules), float(np.mean(ranks))


def at_equal_parameters(bases: Sequence[str]) -> list[dict[str, Any]]:
    """The arms: thirty configurations of equal parameters on every base."""
    return [{"model": base, "components": one} for base in bases for one in equal_parameters(base)]


def _ranks(which: str) -> Callable[[Case], Evidence]:
    """Per base, the rank correlation of a predictor with the outcome over configurations of equal parameters.

    ``difference`` is that of alignment minus that of rank.
    """

    def rule(case: Case) -> Evidence:
        found, values, sizes = case.compared(), {}, []
        for base in dict.fromkeys(found.arms["model"]):
            layers = list(select(find_model(base)))
            rows = [
                (*_predictors(layers, one), float(found.table.loc[arm].mean()))
                for one in equal_parameters(base)
                if (arm := arm_of(found, base, one)) is not None
            ]
            known = np.array([row for row in rows if np.isfinite(row[-1])])
            if len(known) < MIN_POINTS:
                continue
            alignment, rank = (float(spearman(known[:, i], known[:, 2])) for i in (0, 1))
            values[base] = {"alignment": alignment, "rank": rank}.get(which, alignment - rank)
            sizes.append(len(known))
        what = {
            "alignment": f"rank correlation of predicted alignment with {case.measure}",
            "rank": f"rank correlation of the bound on the rank with {case.measure}",
            "difference": "rank correlation of predicted alignment beyond that of the bound on the rank",
        }[which]
        remark = f" Over {min(sizes)} configurations a base." if sizes else ""
        return evidence_over_bases(case, pd.Series(values, dtype=float), what, remark=remark)

    return rule


RULES: dict[str, Callable[[Case], Evidence]] = {
    "advice_over_lora": _advice_over(1, "LoRA of equal cost"),
    "advice_over_random": _advice_over(2, "a random option of equal cost"),
    "pattern_over_advised": _pattern_over("advised option"),
    "pattern_over_lora": _pattern_over("LoRA"),
    "pattern_over_random": _pattern_over("random pattern"),
    "alignment_ranks": _ranks("alignment"),
    "rank_ranks": _ranks("rank"),
    "alignment_beyond_rank": _ranks("difference"),
    "started_pattern_over_lora": _pattern_over("LoRA", " from the gradient"),
}
"""By the name that a claim gives."""
