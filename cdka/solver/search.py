"""From a model and a budget to every option, ranked and marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np

from cdka.components import INDIVISIBLE, SCALING_RULES, Components, scaling
from cdka.cost.adapter import (
    ADAM_BYTES_PER_PARAM,
    ADAPTER_BYTES_PER_PARAM,
    file_overhead_bytes,
    fitted_components,
    forward_flops_per_token,
    full_params,
    num_modules,
)
from cdka.errors import CdkaError, unknown
from cdka.models.catalogue import find_model
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.models.targets import select
from cdka.solver.budget import Budget
from cdka.solver.feasible import Columns, check_fits, columns_for, enumerate_options, possible_values
from cdka.solver.guidelines import find_preset, preset_rows
from cdka.solver.objectives import default_order, pareto_mask, scores
from cdka.solver.option import Option

Model = str | ModelShapes | Sequence[LinearShape] | Sequence[tuple[int, int]]
PAPER_ALPHA = 64.0


@dataclass(frozen=True)
class Solution:
    """All options of one model under one budget, best first, with what is needed to explain them."""

    shapes: ModelShapes
    linears: tuple[LinearShape, ...]
    budget: Budget
    budget_params: int
    columns: Columns
    r1_values: tuple[int, ...]
    r2_values: tuple[int, ...]
    alpha: float
    scaling_rule: str
    weights: Mapping[str, float] = field(default_factory=dict)
    max_r1: int | None = None
    max_r2: int | None = None
    max_r: int | None = None
    indivisible: str = "error"

    def fitted(self, components: Components) -> list[tuple[LinearShape, Components | None]]:
        """The components that each layer gets, by the rule ``indivisible``; None where it is left out."""
        return fitted_components(self.linears, components, self.indivisible)

    @cached_property
    def options(self) -> list[Option]:
        """Every option, best first."""
        return self.at(np.arange(len(self)))

    def top(self, count: int) -> list[Option]:
        """The ``count`` best options, without building the rest."""
        return self.at(np.arange(min(count, len(self))))

    def preset(self, name: str) -> Option | None:
        """The option that a guideline picks; None where none that follows it fits the budget."""
        find_preset(name)
        row = self._preset_rows.get(name)
        return None if row is None else self.at([row])[0]

    def presets(self) -> dict[str, Option]:
        """The option of every guideline that something follows."""
        return {name: self.at([row])[0] for name, row in self._preset_rows.items()}

    def find(self, components: Components) -> Option | None:
        """The option with these components; None where it is not among them."""
        row = self.row(components)
        return None if row is None else self.at([row])[0]

    def row(self, components: Components) -> int | None:
        """The place of these components among the options; None where they are not among them."""
        c, wanted = self.columns, components.as_tuple()
        rows = np.flatnonzero((c.r1 == wanted[0]) & (c.r2 == wanted[1]) & (c.r == wanted[2]))
        return int(rows[0]) if len(rows) else None

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def num_modules(self) -> int:
        """The number of adapted layers."""
        return num_modules(self.linears)

    @property
    def limits(self) -> dict[str, float]:
        """The largest r1, r2 and r that were given; infinite where there is no limit."""
        return {name: getattr(self, name) or np.inf for name in ("max_r1", "max_r2", "max_r")}

    @property
    def given_limits(self) -> tuple[tuple[str, int], ...]:
        """The given limits, as arguments of ``explore``."""
        return tuple((name, value) for name in ("max_r1", "max_r2", "max_r") if (value := getattr(self, name)))

    @property
    def target_names(self) -> list[str]:
        """The last names of the adapted layers, in the model's order."""
        return list(dict.fromkeys(linear.name for linear in self.linears))

    @cached_property
    def _preset_rows(self) -> dict[str, int]:
        return preset_rows(self.columns)

    @cached_property
    def pareto(self) -> np.ndarray:
        """Mask of the rows of ``columns`` that no other beats in parameters, alignment and rank."""
        return pareto_mask(self.columns)

    @cached_property
    def _scores(self) -> np.ndarray | None:
        return scores(self.columns, self.weights) if self.weights else None

    def at(self, rows: Sequence[int] | np.ndarray) -> list[Option]:
        """The options in these rows of ``columns``, without building the others."""
        rows = np.asarray(rows, dtype=np.int64)
        c = self.columns.take(rows)
        count = len(rows)
        marks: list[tuple[str, ...]] = [()] * count
        for name, row in self._preset_rows.items():
            for place in np.flatnonzero(rows == row):
                marks[place] = (*marks[place], name)
        factor = np.array([scaling(self.alpha, 1, 1, self.scaling_rule)]) / _divisor(c, self.scaling_rule)
        return list(
            map(
                Option._make,
                zip(
                    c.r1.tolist(),
                    c.r2.tolist(),
                    c.r.tolist(),
                    c.num_params.tolist(),
                    (c.num_params / self.budget_params).tolist(),
                    (self.budget_params - c.num_params).tolist(),
                    c.rank_bound.tolist(),
                    c.alignment.tolist(),
                    c.flops_per_token.tolist(),
                    (c.flops_per_token / forward_flops_per_token(self.shapes)).tolist(),
                    c.export_rank.tolist(),
                    (ADAPTER_BYTES_PER_PARAM * c.num_params + file_overhead_bytes(self.linears)).tolist(),
                    (ADAM_BYTES_PER_PARAM * c.num_params).tolist(),
                    factor.tolist(),
                    self.pareto[rows].tolist(),
                    [None] * count if self._scores is None else self._scores[rows].tolist(),
                    marks,
                    strict=True,
                ),
            )
        )

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """The answer of ``cdka solve --json``."""
        return {
            "model": self.shapes.name,
            "base_params": self.shapes.base_params,
            "target_modules": self.target_names,
            "num_modules": self.num_modules,
            "full_params": full_params(self.linears),
            "budget": str(self.budget),
            "budget_params": self.budget_params,
            "alpha": self.alpha,
            "num_options": len(self),
            "indivisible": self.indivisible,
            "presets": {name: list(option.components.as_tuple()) for name, option in self.presets().items()},
            "options": [self._document(option) for option in (self.options if top is None else self.top(top))],
        }

    def _document(self, option: Option) -> dict[str, Any]:
        if self.indivisible == "error":
            return option.to_dict()
        modules = {s.path: None if own is None else list(own.as_tuple()) for s, own in self.fitted(option.components)}
        return {**option.to_dict(), "modules": modules}


def _divisor(columns: Columns, rule: str) -> np.ndarray:
    r2, r = columns.r2.astype(float), columns.r.astype(float)
    return {"sqrt_r_r2": np.sqrt(r * r2), "sqrt_r": np.sqrt(r), "r": r, "none": np.ones_like(r)}[rule]


def as_shapes(model: Model) -> ModelShapes:
    """Shapes from a model's name, from shapes, or from a list of layers or (out, in) pairs.

    A list stands for a model made of nothing else; its layers are called ``layer0``, ``layer1``, ...
    """
    if isinstance(model, str):
        return find_model(model)
    if isinstance(model, ModelShapes):
        return model
    linears: list[LinearShape] = []
    for index, item in enumerate(model):
        if isinstance(item, LinearShape):
            linears.append(item)
            continue
        sizes = tuple(cast("Sequence[int]", item))
        if len(sizes) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in sizes):
            raise CdkaError(
                f"a layer is (out_features, in_features), both positive: got {item!r}. Example: (768, 3072)."
            )
        linears.append(LinearShape(f"layer{index}", int(sizes[1]), int(sizes[0]), 1, "other"))
    return ModelShapes(
        name="custom", hub_id=None, family="", kind="other", base_params=full_params(linears), linears=tuple(linears)
    )


def explore(
    model: Model,
    budget: str | int | float | Budget,
    *,
    target_modules: str | Iterable[str] = "all-linear",
    max_r1: int | None = None,
    max_r2: int | None = None,
    max_r: int | None = None,
    weights: Mapping[str, float] | None = None,
    alpha: float = PAPER_ALPHA,
    scaling_rule: str = "sqrt_r_r2",
    indivisible: str = "error",
) -> Solution:
    """Every (r1, r2, r) that divides all target modules and costs at most ``budget``, best first.

    With ``indivisible="nearest"`` or ``"skip"`` every (r1, r2, r) that fits some of them, counted as ``CdkaConfig``
    allocates it: ``Solution.fitted`` has each layer's own components.

    Without ``weights`` the order is alignment, of equals the cheapest (``default_order``); with ``weights`` (names
    of OBJECTIVES) it is the weighted score. Raises CdkaError for an unknown model or module, and for a budget that is
    below the cheapest option or above full fine-tuning of the same modules.
    """
    shapes = as_shapes(model)
    linears = select(shapes, target_modules)
    given = Budget.parse(budget)
    budget_params = given.params(shapes.base_params, linears)
    for name, value in (("max_r1", max_r1), ("max_r2", max_r2), ("max_r", max_r)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise CdkaError(f"{name} must be a positive integer: got {value!r}. Leave it out for no limit.")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < np.inf:
        raise CdkaError(f"alpha must be a positive number: got {alpha!r}. The paper uses 64.")
    if scaling_rule not in SCALING_RULES:
        raise unknown("scaling rule", scaling_rule, SCALING_RULES)
    if indivisible not in INDIVISIBLE:
        raise unknown("indivisible", indivisible, INDIVISIBLE)
    r1_values, r2_values = possible_values(linears, indivisible)
    r1_values = tuple(v for v in r1_values if max_r1 is None or v <= max_r1)
    r2_values = tuple(v for v in r2_values if max_r2 is None or v <= max_r2)
    _check_budget(linears, given, budget_params, r1_values, r2_values, indivisible)
    columns = enumerate_options(linears, budget_params, r1_values, r2_values, max_r, indivisible)
    order = np.argsort(-scores(columns, weights), kind="stable") if weights else default_order(columns)
    if weights:  # equal scores fall back on the default order
        first = default_order(columns)
        columns = columns.take(first)
        order = np.argsort(-scores(columns, weights), kind="stable")
    return Solution(
        shapes=shapes,
        linears=linears,
        budget=given,
        budget_params=budget_params,
        columns=columns.take(order),
        r1_values=r1_values,
        r2_values=r2_values,
        alpha=float(alpha),
        scaling_rule=scaling_rule,
        weights=dict(weights or {}),
        max_r=max_r,
        max_r1=max_r1,
        max_r2=max_r2,
        indivisible=indivisible,
    )


def solve(model: Model, budget: str | int | float | Budget, **settings: Any) -> list[Option]:
    """The options of ``explore``, best first. Same arguments, same errors."""
    return explore(model, budget, **settings).options


def evaluate(
    model: Model,
    components: Components | Sequence[int] | str,
    *,
    target_modules: str | Iterable[str] = "all-linear",
    budget: str | int | float | Budget | None = None,
    alpha: float = PAPER_ALPHA,
    scaling_rule: str = "sqrt_r_r2",
    indivisible: str = "error",
) -> Option:
    """The numbers of one configuration, whether it is within the budget or not.

    Without ``budget``, ``budget_used`` is the share of full fine-tuning of the same modules. Raises CdkaError naming
    every module that the components do not divide, with the nearest values that fit all of them, unless
    ``indivisible`` is another rule.
    """
    shapes = as_shapes(model)
    linears = select(shapes, target_modules)
    chosen = Components.parse(components)
    if indivisible == "error":
        check_fits(linears, chosen)
    given = Budget("count", full_params(linears)) if budget is None else Budget.parse(budget)
    solution = Solution(
        shapes=shapes,
        linears=linears,
        budget=given,
        budget_params=max(1, given.params(shapes.base_params, linears)),
        columns=columns_for(linears, [chosen.r1], [chosen.r2], [chosen.r], indivisible),
        r1_values=(chosen.r1,),
        r2_values=(chosen.r2,),
        alpha=alpha,
        scaling_rule=scaling_rule,
        indivisible=indivisible,
    )
    return solution.options[0]._replace(pareto=False, presets=())


def cheapest(
    linears: Sequence[LinearShape],
    r1_values: Sequence[int],
    r2_values: Sequence[int],
    indivisible: str = "error",
) -> tuple[int, Components]:
    """The smallest number of parameters that any of these configurations has, and which one."""
    pairs = [(a, b) for a in r1_values for b in r2_values]
    r1, r2 = zip(*pairs, strict=True)
    costs = columns_for(linears, r1, r2, [1] * len(pairs), indivisible).num_params
    least = int(np.argmin(np.where(costs > 0, costs, np.iinfo(np.int64).max)))  # 0: adapts nothing
    return int(costs[least]), Components(*pairs[least], 1)


def _check_budget(
    linears: Sequence[LinearShape],
    given: Budget,
    budget_params: int,
    r1_values: Sequence[int],
    r2_values: Sequence[int],
    indivisible: str,
) -> None:
    least, which = cheapest(linears, r1_values, r2_values, indivisible)
    got = f"{given} = {budget_params:,} parameters" if given.kind != "count" else f"{budget_params:,}"
    if budget_params < least:
        raise CdkaError(
            f"the budget must allow the smallest option, {least:,} parameters with ({which}): got {got}. "
            f"Raise it to {least:,} or choose fewer target modules."
        )
    most = full_params(linears)
    if budget_params > most:
        raise CdkaError(
            f"the budget must be at most full fine-tuning of the target modules, {most:,} parameters: got {got}. "
            "Lower it, or use method full."
        )
