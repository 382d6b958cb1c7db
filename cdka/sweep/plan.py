"""A sweep before it runs: which runs, why some cells are missing, and what the whole will cost. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdka.components import PAPER_DEFAULT, Components
from cdka.cost.adapter import count_params
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.halving import levels_words, plan_halving
from cdka.runs.learning_rate import is_auto, recommended
from cdka.runs.resolve import ResolvedRun, resolve_run, spec_for
from cdka.runs.spec import RunSpec
from cdka.solver import obstacles
from cdka.solver.budget import Budget
from cdka.sweep.grid import COMPONENT_AXES, cells, check_grid, parse_grid
from cdka.sweep.lr_search import learning_rates, runs_of, with_search
from cdka.sweep.match import EACH, Matched, iso_options, match

SAME_PRICE = 0.1
"""Arms whose parameters differ by at most this share have one price."""
MANY_RUNS = 10_000
MAX_RUNS = 1_000_000
"""More than this is refused with or without consent: it would fill the memory before it were queued."""


FEW_ARMS_SEEDS, MANY_ARMS_SEEDS, MAX_FEW_ARMS = 3, 5, 3
"""Seeds where none are given: of a sweep of up to three arms, and of a larger one, where a difference of one standard
deviation is found in 3 to 8 of 100 sweeps with three seeds."""


@dataclass(frozen=True)
class Arm:
    """One configuration of a sweep: its settings, parameters, and how far it is from the budget it was matched to.

    ``tuned`` says whether it takes part in the sweep's learning-rate search, None where there is none.
    """

    settings: Mapping[str, Any]
    run: ResolvedRun
    num_params: int
    matched: Matched | None = None
    tuned: bool | None = None

    @property
    def spec(self) -> RunSpec:
        """The settings of its first run, complete."""
        return self.run.spec


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep: every arm with every seed (and every learning rate of a fair search).

    ``notes`` says what was left out or merged, and why. ``document`` is what the store keeps beside the runs.
    """

    name: str
    arms: tuple[Arm, ...]
    runs: tuple[ResolvedRun, ...]
    notes: tuple[str, ...]
    document: Mapping[str, Any]

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """The settings of each run."""
        return tuple(run.spec for run in self.runs)


def plan(
    model: str,
    task: str,
    *,
    grid: str | Mapping[str, Any] | None = None,
    arms: Iterable[Mapping[str, Any]] = (),
    seeds: int | Sequence[int] | None = None,
    baselines: Sequence[str] = (),
    budget: int | float | str | None = None,
    options: int = 0,
    tune_lr: Sequence[float] = (),
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
    halving: int = 0,
    allow_many: bool = False,
) -> Plan:
    """The plan of a grid or a list of arms, with baselines matched to ``budget`` on every model and task.

    Without a budget, the baselines are matched to the largest arm; with the budget ``each``, every price among the
    arms (within 10 %) has a baseline of its own. ``options`` adds as many CDKA options that use the
    budget (``match.iso_options``). Without ``seeds`` there are five of them above three arms, where three resolve
    almost nothing, else three. ``tune_lr`` gives every arm the same learning rates, but one that names its own
    keeps it and counts as not tuned; the choice among them is made on validation data when the sweep is compared.
    ``halving`` stops the weaker half of the arms so many times (``cdka.runs.halving``).
    Raises CdkaError for an empty plan (saying which constraint killed it), an unknown axis or setting, a search
    without validation data, or over 10,000 runs without ``allow_many``.
    """
    base = {key: value for key, value in (settings or {}).items() if value is not None}
    notes: list[str] = []
    rates, seed_list = learning_rates(tune_lr), _seeds(MANY_ARMS_SEEDS if seeds is None else seeds)
    axes = None if grid is None else parse_grid(grid) if isinstance(grid, str) else check_grid(grid)
    wanted = [dict(arm) for arm in arms]
    each = len(seed_list) * max(1, len(rates))
    most = (math.prod(map(len, (axes or {"": []}).values())) + len(wanted) + len(baselines)) * each
    if most > MAX_RUNS:
        raise CdkaError(f"a sweep has at most {MAX_RUNS:,} runs: got up to {most:,}. Take fewer values or seeds.")
    wanted += cells(axes) if axes else []
    if not wanted and not baselines and not options:
        raise CdkaError('a sweep needs a grid, arms or baselines: got none. Example: --grid "r1=1,2,4;r2=4;r=1".')
    limit = None if budget in (None, EACH) else _budget_params(model, budget, base)
    planned = _feasible_arms(model, task, wanted, base, notes)
    planned += _option_arms(model, task, options, limit, base)
    planned += _baseline_arms(model, task, baselines, limit, planned, base, each_price=budget == EACH)
    planned = _merged(planned, notes)
    if seeds is None and len(planned) <= MAX_FEW_ARMS:
        seed_list = _seeds(FEW_ARMS_SEEDS)
    if rates:
        planned = with_search(planned, base, notes)
    elif is_auto(base):
        listed = {f"learning rate of {arm.spec.method} {recommended(arm.spec)}": None for arm in planned}
        notes += [note for note in listed if note not in notes]
    count = sum(1 if arm.tuned is False else max(1, len(rates)) for arm in planned) * len(seed_list)
    if count > MANY_RUNS and not allow_many:
        raise CdkaError(f"a sweep of over {MANY_RUNS:,} runs needs consent: got {count:,}. Add --yes, or fewer values.")
    runs = tuple(runs_of(planned, seed_list, rates))
    halved = {}
    if halving:
        if rates:
            raise CdkaError("halving and a search for learning rates both choose among runs: got both. Leave one out.")
        halved = {"halving": plan_halving([run.spec for run in runs], halving)}
        runs = tuple(run.with_(checkpoint_every=halved["halving"]["levels"][0]) for run in runs)
        notes.append(levels_words(halved["halving"]))
    title = name or _title(model, task, grid, planned)
    document = {
        "name": title,
        "model": model,
        "task": task,
        "grid": dict(grid) if isinstance(grid, Mapping) else grid,
        "baselines": list(baselines),
        "budget": limit,
        **({"match": EACH} if budget == EACH else {}),
        "options": options,
        "seeds": list(seed_list),
        "tune_lr": rates,
        **halved,
        "settings": base,
        "notes": notes,
        "arms": [
            {
                **_plain(arm.settings),
                "num_params": arm.num_params,
                "mismatch": mismatch(arm, limit),
                **({} if arm.tuned is None else {"tuned": arm.tuned}),
            }
            for arm in planned
        ],
    }
    return Plan(title, tuple(planned), runs, tuple(notes), document)


def mismatch(arm: Arm, budget: int | None) -> float | None:
    """(num_params - budget) / budget, with the sweep's budget or the one the arm was matched to; None without either.

    Full fine-tuning has no size to match.
    """
    budget = budget or (arm.matched.budget if arm.matched is not None else None)
    return None if budget is None or arm.spec.method == "full" else arm.num_params / budget - 1.0


def _feasible_arms(
    model: str, task: str, wanted: list[dict[str, Any]], base: dict[str, Any], notes: list[str]
) -> list[Arm]:
    found: list[Arm] = []
    reasons: list[str] = []
    left_out = 0
    for cell in wanted:
        settings = _with_components({**base, **cell})
        spec = spec_for(settings.pop("model", model), settings.pop("task", task), **settings)
        try:
            run = resolve_run(spec)
        except CdkaError as refusal:
            left_out += 1
            reasons += _reasons(spec, refusal)
            continue
        found.append(Arm(cell, run, count_params(run)))
    listed = " ".join(list(dict.fromkeys(reasons))[:3])
    if wanted and not found:
        raise CdkaError(f"no cell of the grid fits the model: {listed}")
    if left_out:
        notes.append(f"left out {left_out} {'cell that does' if left_out == 1 else 'cells that do'} not fit: {listed}")
    return found


def _reasons(spec: RunSpec, refusal: CdkaError) -> list[str]:
    """The constraints that keep a cell out, one each, so that cells that fall to the same one say it once."""
    if spec.components is None or spec.component_pattern:
        return [f"{spec.label}: {refusal}"]
    layers = select(find_model(spec.model), spec.target_modules)
    return [str(obstacle) for obstacle in obstacles(layers, spec.components)] or [f"{spec.label}: {refusal}"]


def _merged(arms: Sequence[Arm], notes: list[str]) -> list[Arm]:
    """Each configuration once, where it was named first."""
    found: dict[str, Arm] = {}
    for arm in arms:
        found.setdefault(_key(arm.spec), arm)
    if merged := len(arms) - len(found):
        notes.append(f"merged {merged} duplicate {'cell' if merged == 1 else 'cells'}")
    return list(found.values())


def _option_arms(model: str, task: str, count: int, limit: int | None, base: dict[str, Any]) -> list[Arm]:
    """CDKA options that use the budget."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise CdkaError(f"options must be a number of CDKA options, at least 0: got {count!r}. Example: --options 4.")
    if not count:
        return []
    if limit is None:
        raise CdkaError("options that use a budget need one: got options without a budget. Example: --budget lora:8.")
    shared = _without_method(base)
    found = []
    for option in iso_options(find_model(model), base.get("target_modules", "all-linear"), limit, count):
        settings = {"components": option.components}
        run = resolve_run(spec_for(model, task, **{**shared, **settings}))
        found.append(Arm(settings, run, option.num_params, Matched(settings, option.num_params, limit)))
    return found


def _baseline_arms(
    model: str,
    task: str,
    baselines: Sequence[str],
    budget: int | None,
    planned: list[Arm],
    base: dict[str, Any],
    *,
    each_price: bool,
) -> list[Arm]:
    """Every baseline on every model and task that an arm uses, matched to ``budget``, to each price among the arms
    there, or to the largest of them."""
    shared = _without_method(base)
    arms: list[Arm] = []
    for place in dict.fromkeys((arm.spec.model, arm.spec.task) for arm in planned) or [(model, task)]:
        base_run = resolve_run(spec_for(*place, **shared))
        here = [arm for arm in planned if (arm.spec.model, arm.spec.task) == place and arm.spec.method != "full"]
        elsewhere = {} if place == (model, task) else dict(zip(("model", "task"), place, strict=True))
        found: dict[str, Arm] = {}
        for baseline, limit in itertools.product(dict.fromkeys(baselines), _prices(here, budget, each_price, base_run)):
            matched = match(baseline, limit, base_run)
            own = resolve_run(spec_for(*place, **{**shared, **matched.settings}))
            found.setdefault(_key(own.spec), Arm({**matched.settings, **elsewhere}, own, matched.num_params, matched))
        arms += found.values()
    return arms


def _prices(here: Sequence[Arm], budget: int | None, each_price: bool, base_run: ResolvedRun) -> list[int]:
    """The numbers of parameters that baselines are matched to, rising; arms within 10 % of each other share one."""
    counts = sorted(arm.num_params for arm in here)
    if budget or not counts:
        return [budget or count_params(base_run.with_(components=PAPER_DEFAULT))]
    if not each_price:
        return [counts[-1]]
    prices: list[int] = []
    for number in counts:
        if not prices or number > (1 + SAME_PRICE) * prices[-1]:
            prices.append(number)
    return prices


def _without_method(base: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that every method shares."""
    own = ("components", "component_pattern", "rank", "method", *COMPONENT_AXES)
    return {key: value for key, value in base.items() if key not in own}


def _budget_params(model: str, budget: int | float | str, base: dict[str, Any]) -> int:
    """A budget as ``cdka solve`` takes it (a count, ``0.5%``, ``lora:8``, ``4MB``) in parameters of an adapter."""
    shapes = find_model(model)
    return Budget.parse(budget).params(shapes.base_params, select(shapes, base.get("target_modules", "all-linear")))


def _with_components(settings: dict[str, Any]) -> dict[str, Any]:
    """Fold r1, r2 and r into components; for the other methods r and rank are the same axis, r1 and r2 do not count."""
    axes = {axis: settings.pop(axis) for axis in COMPONENT_AXES if axis in settings}
    if settings.get("method", "cdka") == "cdka":
        if axes or settings.get("components") is None:
            given = Components.parse(settings.get("components") or PAPER_DEFAULT)
            settings["components"] = Components(*(axes.get(a, getattr(given, a)) for a in COMPONENT_AXES))
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


def _seeds(seeds: int | Sequence[int]) -> Sequence[int]:
    values: Sequence[int] = []
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        values = range(seeds)
    elif isinstance(seeds, list | tuple):
        values = list(dict.fromkeys(seeds))
    listed = values if isinstance(values, list) else ()  # a range holds whole numbers, and may hold a billion
    if not values or not all(type(v) is int and v >= 0 for v in listed):
        raise CdkaError(f"seeds must be a positive number or a list of seeds: got {seeds!r}. Example: --seeds 3.")
    return values


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON holds them, those of ``component_pattern`` too."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(one) for key, one in value.items()}
        return list(value.as_tuple()) if isinstance(value, Components) else value

    return {key: plain(value) for key, value in settings.items()}


def _title(model: str, task: str, grid: Any, arms: Sequence[Arm]) -> str:
    if isinstance(grid, str):
        return f"{grid} on {task}"
    return f"{len(arms)} arms on {task}"
