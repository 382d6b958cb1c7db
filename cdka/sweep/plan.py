"""A sweep before it runs: which runs, why some cells are missing, and what the whole will cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdka.budget import Budget
from cdka.components import PAPER_DEFAULT, Components
from cdka.errors import CdkaError
from cdka.finetune.counts import count_params
from cdka.finetune.spec import RunSpec, resolve
from cdka.models.catalogue import find_model
from cdka.models.shapes import ModelShapes
from cdka.models.targets import select
from cdka.sweep.baselines import Matched, match
from cdka.sweep.grid import cells, check_grid, parse_grid

MANY_RUNS = 10_000
_COMPONENT_AXES = ("r1", "r2", "r")


@dataclass(frozen=True)
class Arm:
    """One configuration of a sweep: its settings, parameters, and how far it is from the budget it was matched to."""

    settings: Mapping[str, Any]
    spec: RunSpec
    num_params: int
    matched: Matched | None = None


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep: every arm with every seed (and every learning rate of a fair search).

    ``notes`` says what was left out or merged, and why. ``document`` is what the store keeps beside the runs.
    """

    name: str
    arms: tuple[Arm, ...]
    specs: tuple[RunSpec, ...]
    notes: tuple[str, ...]
    document: Mapping[str, Any]


def plan(
    model: str,
    task: str,
    *,
    grid: str | Mapping[str, Any] | None = None,
    arms: Iterable[Mapping[str, Any]] = (),
    seeds: int | Sequence[int] = 3,
    baselines: Sequence[str] = (),
    budget: int | float | str | None = None,
    tune_lr: Sequence[float] = (),
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
    allow_many: bool = False,
) -> Plan:
    """The plan of a grid or a list of arms, with baselines matched to ``budget``.

    Without a budget, the baselines are matched to the largest arm. ``tune_lr`` gives every arm the same learning
    rates; the choice among them is made on validation data when the sweep is compared. Raises CdkaError for an
    empty plan (saying which constraint killed it), an unknown axis or setting, or over 10,000 runs without
    ``allow_many``.
    """
    base_settings = {key: value for key, value in (settings or {}).items() if value is not None}
    notes: list[str] = []
    wanted = [dict(arm) for arm in arms]
    if grid is not None:
        wanted += cells(parse_grid(grid) if isinstance(grid, str) else check_grid(grid))
    if not wanted and not baselines:
        raise CdkaError('a sweep needs a grid, arms or baselines: got none. Example: --grid "r1=1,2,4;r2=4;r=1".')
    planned = _feasible_arms(model, task, wanted, base_settings, notes)
    limit = None if budget is None else _budget_params(model, budget, base_settings)
    planned += _baseline_arms(model, task, baselines, limit, planned, base_settings)
    rates = _rates(tune_lr)
    seed_list = _seeds(seeds)
    count = len(planned) * len(seed_list) * max(1, len(rates))
    if count > MANY_RUNS and not allow_many:
        raise CdkaError(f"a sweep of over {MANY_RUNS:,} runs needs consent: got {count:,}. Add --yes, or fewer values.")
    specs = tuple(
        arm.spec.with_(seed=seed, lr=rate if rate is not None else arm.spec.lr)
        for seed in seed_list
        for rate in (rates or [None])
        for arm in planned
    )
    title = name or _title(model, task, grid, planned)
    document = {
        "name": title, "model": model, "task": task, "grid": dict(grid) if isinstance(grid, Mapping) else grid,
        "baselines": list(baselines), "budget": limit, "seeds": seed_list, "tune_lr": rates,
        "settings": base_settings, "notes": notes,
        "arms": [
            {**_plain(arm.settings), "num_params": arm.num_params,
             "mismatch": None if arm.matched is None else arm.matched.mismatch}
            for arm in planned
        ],
    }  # fmt: skip
    return Plan(title, tuple(planned), specs, tuple(notes), document)


def _feasible_arms(
    model: str, task: str, wanted: list[dict[str, Any]], base: dict[str, Any], notes: list[str]
) -> list[Arm]:
    found: dict[RunSpec, Arm] = {}
    reasons: list[str] = []
    merged = 0
    for cell in wanted:
        settings = _with_components({**base, **cell})
        spec = resolve(settings.pop("model", model), settings.pop("task", task), **settings)
        try:
            num_params = count_params(spec, _shapes(spec.model))
        except CdkaError as error:
            reasons.append(f"{spec.label}: {error}")
            continue
        key = _key(spec)
        merged += key in found
        found.setdefault(key, Arm(cell, spec, num_params))
    if wanted and not found:
        raise CdkaError(f"no cell of the grid fits the model: {reasons[0]}")
    if reasons:
        notes.append(f"left out {len(reasons)} cells that do not fit: {reasons[0]}")
    if merged:
        notes.append(f"merged {merged} duplicate cells")
    return list(found.values())


def _baseline_arms(
    model: str, task: str, baselines: Sequence[str], budget: int | None, planned: list[Arm], base: dict[str, Any]
) -> list[Arm]:
    if not baselines:
        return []
    own = ("components", "component_pattern", "rank", "method", *_COMPONENT_AXES)
    shared = {key: value for key, value in base.items() if key not in own}
    spec = resolve(model, task, **shared)
    shapes = _shapes(model)
    if budget is None:
        budget = max((arm.num_params for arm in planned if arm.spec.method != "full"), default=None)
    if budget is None:
        budget = count_params(spec.with_(components=PAPER_DEFAULT), shapes)
    arms = []
    for baseline in dict.fromkeys(baselines):
        matched = match(baseline, budget, spec, shapes)
        arms.append(
            Arm(matched.settings, resolve(model, task, **{**shared, **matched.settings}), matched.num_params, matched)
        )
    return arms


def _budget_params(model: str, budget: int | float | str, base: dict[str, Any]) -> int:
    """A budget as ``cdka solve`` takes it (a count, ``0.5%``, ``lora:8``, ``4MB``) in parameters of an adapter."""
    shapes = _shapes(model)
    return Budget.parse(budget).params(shapes.base_params, select(shapes, base.get("target_modules", "all-linear")))


def _with_components(settings: dict[str, Any]) -> dict[str, Any]:
    """Fold r1, r2 and r into components; for the other methods r and rank are the same axis, r1 and r2 do not count."""
    axes = {axis: settings.pop(axis) for axis in _COMPONENT_AXES if axis in settings}
    if settings.get("method", "cdka") == "cdka":
        if axes or settings.get("components") is None:
            given = Components.parse(settings.get("components") or PAPER_DEFAULT)
            settings["components"] = Components(*(axes.get(a, getattr(given, a)) for a in _COMPONENT_AXES))
        settings.pop("rank", None)
    else:
        settings.pop("components", None)
        if settings["method"] == "full":
            settings.pop("rank", None)
        elif "r" in axes:
            settings.setdefault("rank", axes["r"])
    return settings


def _key(spec: RunSpec) -> str:
    return repr(sorted(spec.to_dict().items(), key=lambda item: item[0]))


def _shapes(model: str) -> ModelShapes:
    return find_model(model)


def _rates(values: Sequence[float]) -> list[float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise CdkaError(f"tune_lr takes positive learning rates: got {value!r}. Example: 1e-3,3e-3,1e-2.")
    return sorted({float(value) for value in values})


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    values = list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else list(seeds)
    if not values or any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in values):
        raise CdkaError(f"seeds must be a positive number or a list of seeds: got {seeds!r}. Example: --seeds 3.")
    return list(dict.fromkeys(values))


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v.as_tuple()) if isinstance(v, Components) else v for k, v in settings.items()}


def _title(model: str, task: str, grid: Any, arms: Sequence[Arm]) -> str:
    if isinstance(grid, str):
        return f"{grid} on {task}"
    return f"{len(arms)} arms on {task}"
