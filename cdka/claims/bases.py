"""Studies whose unit is the base model: the same arms on every base, one number per base, the interval over bases.

What holds over seeds on one checkpoint may be a trait of that checkpoint. Here each base gives one number, the mean
over its seeds, and the t interval over these numbers speaks of new bases. The embedded bases differ in their split of
the digits too, so that their numbers carry the choice of test examples as well. (ours)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cdka.claims.designs import pairs
from cdka.claims.evidence import Case, Evidence
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.models.targets import select

if TYPE_CHECKING:
    from cdka.compare import Comparison

FAMILIES = {"digits-vit": ("digits-vit", "digits-vit@12", "digits-vit@13", "digits-vit@14", "digits-vit@15")}
"""Base models of one architecture, trained alike from other seeds and data."""
MIN_BASES = 3

EXCHANGED = ((Components(4, 16, 3), Components(16, 4, 3)), (Components(4, 8, 6), Components(8, 4, 6)))
"""(r2 > r1, the same exchanged): equal parameters where a model's matrices are square or come both ways."""
EQUAL_COST = (Components(2, 4, 1), Components(8, 4, 1))
"""A small and a large r1 that cost the same: r1 = 2 and 8 at r2 = 4 on square layers."""
AT_LORA_8, AT_LORA_1 = Components(4, 8, 6), Components(16, 16, 1)
LORA_8, LORA_1 = Components(1, 1, 8), Components(1, 1, 1)
"""LoRA with rsLoRA scaling, as the configuration of CDKA that it is: so it trains in the same packs."""


def bases_of(model: str) -> tuple[str, ...]:
    """The base models that ``model`` stands for: a family by its first name, or several names with commas between.

    Raises CdkaError for a single model: an interval over bases needs at least three.
    """
    found = FAMILIES.get(model, tuple(name.strip() for name in model.split(",") if name.strip()))
    if len(found) < MIN_BASES:
        known = ", ".join(name for name in FAMILIES if any(shapes.name == name for shapes in list_models()))
        raise CdkaError(
            f"a study over base models needs at least {MIN_BASES} of one architecture: got {model!r}. Name them with "
            f"commas between, or take the embedded family: {known}."
        )
    return found


def exchanged_and_equal_cost(bases: Sequence[str]) -> list[dict[str, Any]]:
    """The arms of the exchanged pairs and of the two r1 of equal cost, on every base."""
    components = [one for pair in (*EXCHANGED, EQUAL_COST) for one in pair]
    return [{"model": base, "components": one} for base in bases for one in components]


def budget_pairs(bases: Sequence[str]) -> list[dict[str, Any]]:
    """The exchanged pairs of budgets from 5 to 25 % of the adapted weights, on every base."""
    return [{"model": base, "components": one} for base in bases for pair in _budget_pairs((base,)) for one in pair]


def _budget_pairs(bases: Sequence[str]) -> list[tuple[Components, Components]]:
    """The exchanged pairs, smallest budget first; bases of one architecture share them."""
    return pairs(list(select(find_model(bases[0]))))


def beside_lora(bases: Sequence[str]) -> list[dict[str, Any]]:
    """CDKA and LoRA at the parameters of LoRA rank 8 and of rank 1, on every base."""
    components = (AT_LORA_8, LORA_8, AT_LORA_1, LORA_1)
    return [{"model": base, "components": one} for base in bases for one in components]


def by_base(found: Comparison, a: Components, b: Components) -> pd.Series:
    """Per base, the mean over shared seeds of the score of ``a`` minus that of ``b``; NaN without a shared seed."""
    out = {}
    for model in dict.fromkeys(found.arms["model"]):
        left, right = arm_of(found, model, a), arm_of(found, model, b)
        if left is not None and right is not None:
            out[model] = float((found.table.loc[left] - found.table.loc[right]).mean())
    return pd.Series(out, dtype=float)


def arm_of(found: Comparison, model: str, components: Components) -> str | None:
    """The arm of a configuration on a base; None where it was not run."""
    arms = found.arms[found.arms["model"] == model]
    same = np.all([arms[name] == getattr(components, name) for name in ("r1", "r2", "r")], axis=0)
    return next(iter(arms[same]["arm"]), None)


def evidence_over_bases(case: Case, values: pd.Series, what: str, shift: float = 0.0, remark: str = "") -> Evidence:
    """The evidence of one number per base, listed base by base."""
    listed = ", ".join(f"{name} {value:+.3f}" for name, value in values.items())
    sentence = f" Base by base: {listed}." if listed else ""
    return Evidence(values.to_numpy() + shift, what, 1.0, shift, remark + sentence, counted="base model")


def pairs_over_bases(case: Case) -> Evidence:
    """Per base, the mean over the exchanged pairs of r2 > r1 minus r1 > r2."""
    found = case.compared()
    each = {f"({a}) over ({b})": by_base(found, a, b) for a, b in EXCHANGED}
    values = pd.DataFrame(each).mean(axis=1, skipna=False)
    listed = ", ".join(f"{name} {column.mean():+.3f}" for name, column in each.items())
    return evidence_over_bases(
        case, values, f"{case.measure} of r2 > r1 over the same exchanged", remark=f" Pair by pair: {listed}."
    )


def _over_budgets(case: Case, number: Callable[[pd.DataFrame], pd.Series], what: str) -> Evidence:
    """``number`` of the differences by base (rows) and pair (columns, smallest budget first)."""
    found = case.compared()
    each = {f"({a}) over ({b})": by_base(found, a, b) for a, b in _budget_pairs(list(found.arms["model"])[:1])}
    differences = pd.DataFrame(each)
    listed = ", ".join(f"{name} {column.mean():+.3f}" for name, column in each.items())
    return evidence_over_bases(case, number(differences), what, remark=f" Budget by budget: {listed}.")


def budgets(case: Case) -> Evidence:
    """Per base, the mean over budgets of r2 > r1 minus the exchanged option."""
    what = f"{case.measure} of r2 > r1 over the same exchanged, mean over budgets"
    return _over_budgets(case, lambda differences: differences.mean(axis=1, skipna=False), what)


def budgets_differ(case: Case) -> Evidence:
    """Per base, that difference at the smallest budget minus the one at the largest."""
    what = f"{case.measure} of r2 > r1 over the same exchanged, smallest budget minus largest"
    return _over_budgets(case, lambda differences: differences.iloc[:, 0] - differences.iloc[:, -1], what)


def small_r1_over_bases(case: Case) -> Evidence:
    """Per base, r1 = 2 minus r1 = 8 at equal cost."""
    small, large = EQUAL_COST
    values = by_base(case.compared(), small, large)
    return evidence_over_bases(case, values, f"{case.measure} of ({small}) over ({large}), equal parameters")


def _over_lora(components: Components, lora: Components, margin: float = 0.0) -> Callable[[Case], Evidence]:
    def rule(case: Case) -> Evidence:
        found = case.compared()
        values = by_base(found, components, lora)
        remark = f" Supported where the whole interval is above -{margin:g}." if margin else ""
        what = f"{case.measure} of CDKA ({components}) over LoRA rank {lora.r}"
        return evidence_over_bases(case, values, what, margin, remark + _rates(case, found, components, lora))

    return rule


def _rates(case: Case, found: Comparison, components: Components, lora: Components) -> str:
    """The rates that won on validation, over the bases; a win at the edge of the search might be larger outside it."""
    tried = sorted({run.spec.lr for run in case.runs})
    rates = []
    for name, one in ((f"CDKA {components}", components), (f"LoRA {lora.r}", lora)):
        arms = [arm_of(found, model, one) for model in dict.fromkeys(found.arms["model"])]
        chosen = sorted(float(found.settings[arm]["lr"]) for arm in arms if arm is not None)
        edge = sum(rate in (tried[0], tried[-1]) for rate in chosen)
        at_edge = f", {edge} of {len(chosen)} at the edge of the search" if edge and len(tried) > 1 else ""
        rates.append(f"{name} {', '.join(f'{rate:g}' for rate in np.unique(chosen))}{at_edge}")
    return f" Rates chosen on validation: {'; '.join(rates)}."


RULES: dict[str, Callable[[Case], Evidence]] = {
    "pairs_over_bases": pairs_over_bases,
    "small_r1_over_bases": small_r1_over_bases,
    "budgets": budgets,
    "budgets_differ": budgets_differ,
    "over_lora_8": _over_lora(AT_LORA_8, LORA_8),
    "over_lora_1": _over_lora(AT_LORA_1, LORA_1),
    "near_lora_8": _over_lora(AT_LORA_1, LORA_8, 0.01),
}
"""By the name that a claim gives."""
