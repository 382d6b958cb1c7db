"""Components per module that capture most of a measured gradient within a budget. (ours)

Of a gradient G of one module, r components with (r1, r2) can capture at most the r leading singular values of the
rearranged R(G). Every module is offered every (r1, r2, r); the budget goes where a parameter captures most energy (the
squared norm of the gradient), or most in proportion ("balanced"). That is what the best start captures, not what a
random A does, and a gradient of a few batches, not of the whole training: ``cdka study from-gradients`` asks whether it
helps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cdka import childproc
from cdka.align.measure import check_finite, gradients_of
from cdka.align.request import MAX_R1, MAX_R2, AlignRequest
from cdka.components import Components, divisors
from cdka.errors import CdkaError, unknown
from cdka.models.shapes import LinearShape
from cdka.models.targets import paths_of
from cdka.solver import MEASURES, Option, Pattern, Solution, advise, explore
from cdka.solver.patterns import Choices, allocate, worth_having
from cdka.theory.alignment import capture_curve

LARGE = 1024
"""From this smaller dimension on only r1 up to 4 and r2 up to 16 are tried: each pair decomposes the gradient anew."""
LIMIT_S = 3600.0
_SMALLEST_SHARE = 1e-12
"""Share of a gradient below which its logarithm is cut."""


@dataclass(frozen=True)
class _Module:
    """One module, or all of one kind where not every gradient was held; with the gradients measured on it."""

    path: str
    linear: LinearShape
    gradients: tuple[np.ndarray, ...]

    @property
    def energy(self) -> float:
        """The squared norm of its gradients; the unmeasured ones of a kind count as the mean of the others."""
        squares = [float(np.sum(np.square(one, dtype=np.float64))) for one in self.gradients]
        return self.linear.count * float(np.mean(squares))

    def captured(self, r1: int, r2: int, most: int) -> np.ndarray:
        """The largest share of the energy that r = 1, ..., ``most`` components can capture."""
        curves = []
        for one in self.gradients:
            curve = capture_curve(one, r1, r2, max_components=most) ** 2
            curves.append(np.r_[curve, np.full(max(0, most - len(curve)), curve[-1])][:most])
        return np.mean(curves, axis=0)


def gradient_pattern(solution: Solution, gradients: Mapping[str, np.ndarray], measure: str = "overall") -> Pattern:
    """The components per module that capture most of ``gradients`` (out, in) by path, within ``solution``'s budget.

    ``overall`` adds up captured energy, ``balanced`` the logarithm of each module's captured share. ``value`` of the
    result is the alignment that the best start would reach: the root of the captured share, or the geometric mean of
    the modules' roots; ``uniform_value`` is that of the advised option, which is never better. Raises CdkaError where
    the gradients are not finite or all zero.
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    check_finite(gradients)
    modules = _modules(solution.linears, gradients)
    whole = sum(module.energy for module in modules)
    uniform = advise(solution).option
    groups = [_choices(module, solution, measure, whole, uniform.components) for module in modules]
    chosen = allocate(groups, solution.budget_params, uniform.components)
    everywhere = [uniform.components] * len(modules)
    return Pattern(
        choices=tuple((module.path, components) for module, components in zip(modules, chosen, strict=True)),
        measure=measure,
        value=_reached(modules, chosen, measure, whole),
        uniform=uniform,
        uniform_value=_reached(modules, everywhere, measure, whole),
        num_params=sum(_params(module, one) for module, one in zip(modules, chosen, strict=True)),
        budget_params=solution.budget_params,
        alignment=_predicted(modules, chosen),
    )


def measure_pattern(
    model: str,
    task: str,
    budget: str,
    *,
    measure: str = "overall",
    batches: int = 8,
    batch_size: int = 64,
    seed: int = 0,
    target_modules: str | Sequence[str] = "all-linear",
    limits: Mapping[str, Any] | None = None,
    task_options: Mapping[str, Any] | None = None,
) -> Pattern:
    """``gradient_pattern`` of the gradients of ``batches`` training batches, measured in a child process.

    The gradients are kept, so asking again for another budget is quick. Raises CdkaError.
    """
    targets = target_modules if isinstance(target_modules, str) else list(target_modules)
    request = AlignRequest(
        model,
        task,
        batches=batches,
        batch_size=batch_size,
        seed=seed,
        target_modules=targets if isinstance(targets, str) else tuple(targets),
        task_options=dict(task_options or {}),
    )
    solution = explore(request.shapes(), budget, target_modules=targets, **(limits or {}))
    found = childproc.call(
        "cdka.align.gradient_pattern:pattern_of",
        {"request": request.to_dict(), "budget": budget, "measure": measure, "limits": dict(limits or {})},
        limit_s=LIMIT_S,
        failure=f"the gradient of {model!r} on {task!r} could not be measured",
    )
    uniform = solution.find(Components(*found["uniform"]))
    return _from_plain(found, solution, uniform or advise(solution).option)


def pattern_of(request: Mapping[str, Any], budget: str, measure: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of ``measure_pattern``: gradients by torch, and the pattern as plain data."""
    asked = AlignRequest.from_dict(dict(request))
    solution = explore(asked.shapes(), budget, target_modules=asked.target_modules, **limits)
    return gradient_pattern(solution, gradients_of(asked), measure).to_dict()


def _from_plain(found: Mapping[str, Any], solution: Solution, uniform: Option) -> Pattern:
    choices = tuple((path, Components(*components)) for path, components in found["choices"].items())
    kept = {key: found[key] for key in ("measure", "value", "uniform_value", "num_params", "alignment")}
    return Pattern(choices=choices, uniform=uniform, budget_params=solution.budget_params, **kept)


def _modules(linears: Sequence[LinearShape], gradients: Mapping[str, np.ndarray]) -> list[_Module]:
    """Each module with its gradient; a kind as one module where some of its gradients were not held."""
    found = []
    for linear in linears:
        held = [(path, gradients[path]) for paths in paths_of(linear) for path in paths if path in gradients]
        if not held:
            raise CdkaError(f"no gradient was measured on {linear.path!r}. Choose other target modules.")
        if len(held) == linear.count:
            found += [_Module(path, replace(linear, count=1), (gradient,)) for path, gradient in held]
        else:
            found.append(_Module(linear.path, linear, tuple(gradient for _, gradient in held)))
    return found


def _choices(module: _Module, solution: Solution, measure: str, whole: float, uniform: Components) -> Choices:
    """Every configuration of one module with what it costs and captures."""
    linear, limits = module.linear, solution.limits
    is_large = min(linear.out_features, linear.in_features) >= LARGE
    most_r1, most_r2 = (4, 16) if is_large else (MAX_R1, MAX_R2)
    pairs = [
        (r1, r2)
        for r1 in divisors(linear.out_features)
        for r2 in divisors(linear.in_features)
        if r1 <= min(most_r1, limits["max_r1"]) and r2 <= min(most_r2, limits["max_r2"])
    ]
    costs, values, components = [], [], []
    for r1, r2 in dict.fromkeys([*pairs, (uniform.r1, uniform.r2)]):
        one = linear.count * Components(r1, r2, 1).num_params(linear.out_features, linear.in_features)
        complete = min(linear.out_features * r2 // r1, linear.in_features * r1 // r2)
        most = int(min(solution.budget_params // one, limits["max_r"], complete))
        if most < 1:
            continue
        costs.append(one * np.arange(1, most + 1))
        values.append(_value(module, module.captured(r1, r2, most), measure, whole))
        components += [Components(r1, r2, r) for r in range(1, most + 1)]
    return worth_having(module.path, (linear,), np.concatenate(costs), np.concatenate(values), components)


def _value(module: _Module, share: np.ndarray, measure: str, whole: float) -> np.ndarray:
    """The worth of capturing this share of a module: of all energy, or its logarithm."""
    if measure == "overall":
        return module.energy / whole * share
    return module.linear.count * np.log(np.maximum(share, _SMALLEST_SHARE)) / 2


def _reached(modules: Sequence[_Module], chosen: Sequence[Components], measure: str, whole: float) -> float:
    values = [
        float(_value(module, module.captured(one.r1, one.r2, one.r)[-1:], measure, whole)[0])
        for module, one in zip(modules, chosen, strict=True)
    ]
    if measure == "overall":
        return float(np.sqrt(sum(values)))
    return float(np.exp(sum(values) / sum(module.linear.count for module in modules)))


def _predicted(modules: Sequence[_Module], chosen: Sequence[Components]) -> float:
    """The alignment that the formula predicts of a random start; every module weighs the same, as in options."""
    squares = [
        module.linear.count * one.alignment(module.linear.in_features) ** 2
        for module, one in zip(modules, chosen, strict=True)
    ]
    return float(np.sqrt(sum(squares) / sum(module.linear.count for module in modules)))


def _params(module: _Module, components: Components) -> int:
    return module.linear.count * components.num_params(module.linear.out_features, module.linear.in_features)
