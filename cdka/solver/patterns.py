"""Different components for different modules under one total budget; and spending what a uniform choice leaves.

Uniform components are the default and what the paper studies. A pattern can do better on one stated measure:

* ``"balanced"`` (default): the geometric mean of the modules' expected alignments. Each module counts by the ratio it
  improves, so none is starved.
* ``"overall"``: the square root of the mean of squares, the number that options carry. It is the share of a full
  first step that is followed if every module's gradient has the same energy, and it favours small modules, where
  alignment is cheap.

Both are upper-bounded by 1 and reach it where every module is fully aligned. (ours)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from cdka.components import PAPER_DEFAULT, Components, divisors
from cdka.errors import CdkaError, unknown
from cdka.models.shapes import LinearShape
from cdka.solver.option import Option
from cdka.solver.search import Solution

MEASURES = ("balanced", "overall")


@dataclass(frozen=True)
class Pattern:
    """Components per module path, and how they compare with the best uniform choice on the measure they maximise."""

    choices: tuple[tuple[str, Components], ...]
    measure: str
    value: float
    uniform: Option
    uniform_value: float
    num_params: int
    budget_params: int
    alignment: float

    @property
    def residual(self) -> int:
        """Parameters of the budget left unspent."""
        return self.budget_params - self.num_params

    @property
    def default(self) -> Components:
        """The most frequent components: what the rest of the pattern deviates from."""
        return Counter(components for _, components in self.choices).most_common(1)[0][0]

    def component_pattern(self) -> dict[str, Components]:
        """The deviations from ``default``, keyed as PEFT matches patterns: a module's name, or an expression."""
        names = Counter(path.rsplit(".", 1)[-1] for path, _ in self.choices)
        found = {}
        for path, components in self.choices:
            if components != self.default:
                name = path.rsplit(".", 1)[-1]
                key = name if names[name] == 1 else path.replace(".", r"\.").replace("*", r"\d+")
                found[key] = components
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "choices": {path: list(c.as_tuple()) for path, c in self.choices},
            "default": list(self.default.as_tuple()),
            "component_pattern": {key: list(c.as_tuple()) for key, c in self.component_pattern().items()},
            "measure": self.measure,
            "value": self.value,
            "uniform": list(self.uniform.components.as_tuple()),
            "uniform_value": self.uniform_value,
            "num_params": self.num_params,
            "residual": self.residual,
            "alignment": self.alignment,
        }


@dataclass(frozen=True)
class Choices:
    """The configurations worth having for the layers of one path: cost and value, both rising."""

    path: str
    linears: tuple[LinearShape, ...]
    cost: np.ndarray
    value: np.ndarray
    components: tuple[Components, ...]


def pattern(solution: Solution, measure: str = "balanced") -> Pattern:
    """The components per module that maximise ``measure`` within the budget of ``solution``.

    A greedy ascent along each module's best trade-off, started from nothing and from the best uniform option; the
    better of the two is returned, so it is never worse than uniform. It is not guaranteed to be the exact
    optimum. The limits on r1, r2 and r are those that the solution was made with.
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    groups = [_group(path, linears, solution, measure) for path, linears in _by_path(solution.linears).items()]
    uniform, uniform_value = best_uniform(solution, measure)
    chosen = allocate(groups, solution.budget_params, uniform.components)
    return _finish(solution, groups, chosen, measure, uniform, uniform_value)


def allocate(groups: Sequence[Choices], budget: int, uniform: Components) -> list[Components]:
    """One configuration per group, of the largest total value found within ``budget``: at least that of ``uniform``."""
    starts = [_greedy(groups, budget), _like(groups, uniform)]
    best = max((_fill(groups, start, budget) for start in starts), key=lambda s: _total(groups, s))
    return [group.components[index] for group, index in zip(groups, best, strict=True)]


def worth_having(
    path: str, linears: tuple[LinearShape, ...], cost: np.ndarray, value: np.ndarray, components: Sequence[Components]
) -> Choices:
    """The configurations of one path that no cheaper one equals, in order of their cost."""
    order = np.lexsort((-value, cost))
    value = value[order]
    worth = np.r_[True, value[1:] > np.maximum.accumulate(value)[:-1]]
    rows = order[worth]
    return Choices(path, linears, cost[rows], value[worth], tuple(components[i] for i in rows))


def spend_residual(solution: Solution, option: Option, measure: str = "balanced") -> Pattern:
    """``option`` with more components in some modules, until nothing fits into what it leaves of the budget.

    r1 and r2 stay as they are; each further component goes where the measure gains most per parameter.
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    by_path = _by_path(solution.linears)
    chosen = dict.fromkeys(by_path, option.components)
    left = solution.budget_params - option.num_params
    if left < 0:
        raise CdkaError(f"{option.components} exceeds the budget by {-left:,} parameters: nothing is left to spend.")
    while True:
        best, best_gain = None, 0.0
        for path, linears in by_path.items():
            c = chosen[path]
            more = Components(c.r1, c.r2, c.r + 1)
            cost = _params(linears, more) - _params(linears, c)
            gain = (_value(linears, more, measure) - _value(linears, c, measure)) / cost
            if cost <= left and gain > best_gain:
                best, best_gain = path, gain
        if best is None:
            break
        c = chosen[best]
        chosen[best] = Components(c.r1, c.r2, c.r + 1)
        left -= _params(by_path[best], Components(c.r1, c.r2, 1))
    groups = [Choices(path, linears, np.empty(0), np.empty(0), ()) for path, linears in by_path.items()]
    modules = solution.num_modules
    value = sum(_value(linears, option.components, measure) for linears in by_path.values())
    return _finish(solution, groups, list(chosen.values()), measure, option, _as_alignment(value, modules, measure))


def best_uniform(solution: Solution, measure: str = "balanced") -> tuple[Option, float]:
    """The uniform option that is best on ``measure``, and its value."""
    c = solution.columns
    total = np.zeros(len(c))
    for linear in solution.linears:
        squares = np.minimum(1.0, c.r * c.r2 / (c.r1 * linear.in_features))
        total += linear.count * (np.log(squares) / 2 if measure == "balanced" else squares)
    row = int(np.argmax(total))
    return solution.at([row])[0], _as_alignment(float(total[row]), solution.num_modules, measure)


def _finish(solution, groups, chosen, measure, uniform, uniform_value) -> Pattern:
    pairs = list(zip(groups, chosen, strict=True))
    modules = solution.num_modules
    return Pattern(
        choices=tuple((group.path, components) for group, components in pairs),
        measure=measure,
        value=_as_alignment(sum(_value(g.linears, c, measure) for g, c in pairs), modules, measure),
        uniform=uniform,
        uniform_value=uniform_value,
        num_params=sum(_params(g.linears, c) for g, c in pairs),
        budget_params=solution.budget_params,
        alignment=_as_alignment(sum(_value(g.linears, c, "overall") for g, c in pairs), modules, "overall"),
    )


def _as_alignment(total: float, modules: int, measure: str) -> float:
    return math.exp(total / modules) if measure == "balanced" else math.sqrt(total / modules)


def _by_path(linears: Sequence[LinearShape]) -> dict[str, tuple[LinearShape, ...]]:
    groups: dict[str, list[LinearShape]] = {}
    for linear in linears:
        groups.setdefault(linear.path, []).append(linear)
    return {path: tuple(members) for path, members in groups.items()}


def _params(linears: Sequence[LinearShape], components: Components) -> int:
    return sum(s.count * components.num_params(s.out_features, s.in_features) for s in linears)


def _value(linears: Sequence[LinearShape], components: Components, measure: str) -> float:
    cosines = ((s.count, components.alignment(s.in_features)) for s in linears)
    return sum(count * (math.log(cos) if measure == "balanced" else cos**2) for count, cos in cosines)


def _group(path: str, linears: tuple[LinearShape, ...], solution: Solution, measure: str) -> Choices:
    """Every configuration worth having for one path.

    Cost and alignment depend on r2/r1 and r only, so of the pairs with one ratio the r1 nearest to the paper's is
    taken; and of those, only what no cheaper one equals.
    """
    limits = solution.limits
    ratios: dict[Fraction, Components] = {}
    for r1 in divisors(math.gcd(*(s.out_features for s in linears))):
        for r2 in divisors(math.gcd(*(s.in_features for s in linears))):
            if r1 > limits["max_r1"] or r2 > limits["max_r2"]:
                continue
            ratio, unit = Fraction(r2, r1), Components(r1, r2, 1)
            if ratio not in ratios or _distance(unit) < _distance(ratios[ratio]):
                ratios[ratio] = unit
    costs, values, found = [], [], []
    inner = max(s.in_features for s in linears)
    for unit in ratios.values():
        one = _params(linears, unit)
        useful = math.ceil(inner * unit.r1 / unit.r2)  # alignment is complete there
        most = int(min(solution.budget_params // one, limits["max_r"], useful))
        r = np.arange(1, most + 1)
        squares = [(s.count, np.minimum(1.0, r * unit.r2 / (unit.r1 * s.in_features))) for s in linears]
        costs.append(one * r)
        values.append(sum(n * (np.log(q) / 2 if measure == "balanced" else q) for n, q in squares))
        found += [Components(unit.r1, unit.r2, int(count)) for count in r]
    return worth_having(path, linears, np.concatenate(costs), np.concatenate(values), found)


def _distance(unit: Components) -> float:
    return abs(math.log2(unit.r1 / PAPER_DEFAULT.r1))


def _hull(cost: np.ndarray, value: np.ndarray) -> list[int]:
    """Indices of the upper concave envelope: each step costs more and gains less per parameter than the one before."""
    kept: list[int] = []
    for i in range(len(cost)):
        while len(kept) >= 2:
            a, b = kept[-2:]
            if (value[b] - value[a]) * (cost[i] - cost[a]) > (value[i] - value[a]) * (cost[b] - cost[a]):
                break
            kept.pop()
        kept.append(i)
    return kept


def _greedy(groups: Sequence[Choices], budget: int) -> list[int]:
    """Climb all groups' envelopes at once, steepest step first, while the budget lasts."""
    state = [0] * len(groups)
    spent = sum(int(group.cost[0]) for group in groups)
    steps = []
    for g, group in enumerate(groups):
        hull = _hull(group.cost, group.value)
        for a, b in pairwise(hull):
            extra = int(group.cost[b] - group.cost[a])
            steps.append((-(group.value[b] - group.value[a]) / extra, g, b, extra))
    stopped = set()
    for _, g, index, extra in sorted(steps):
        if g in stopped or spent + extra > budget:
            stopped.add(g)
            continue
        state[g], spent = index, spent + extra
    return state


def _like(groups: Sequence[Choices], components: Components) -> list[int]:
    """The state nearest to a uniform choice that costs no more: at least as good in every group."""
    return [int(np.searchsorted(g.cost, _params(g.linears, components), side="right")) - 1 for g in groups]


def _fill(groups: Sequence[Choices], state: list[int], budget: int) -> list[int]:
    """Spend what is left: again and again the affordable change with the largest gain."""
    state = list(state)
    left = budget - sum(int(group.cost[i]) for group, i in zip(groups, state, strict=True))
    while True:
        best, best_gain = None, 0.0
        for g, group in enumerate(groups):
            index = int(np.searchsorted(group.cost, group.cost[state[g]] + left, side="right")) - 1
            gain = float(group.value[index] - group.value[state[g]])
            if gain > best_gain:
                best, best_gain = (g, index), gain
        if best is None:
            return state
        g, index = best
        left -= int(groups[g].cost[index] - groups[g].cost[state[g]])
        state[g] = index


def _total(groups: Sequence[Choices], state: Sequence[int]) -> float:
    return sum(float(group.value[i]) for group, i in zip(groups, state, strict=True))
