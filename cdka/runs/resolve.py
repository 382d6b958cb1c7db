"""A run with everything that its names stand for, looked up once at the door and handed on. Free of torch."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from cdka.components import Components
from cdka.errors import CdkaError, unknown
from cdka.models.catalogue import find_model, list_models
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.models.targets import paths_of, select
from cdka.paths import expanded
from cdka.runs.learning_rate import is_auto, recommended
from cdka.runs.spec import AUTO, RunSpec
from cdka.tasks.catalogue import find_task
from cdka.tasks.info import TaskInfo, recipe_of
from cdka.tasks.suitable import fits_kind


@dataclass(frozen=True)
class AdaptedLayer:
    """``count`` layers of one shape that a run adapts alike; ``components`` is None for methods other than cdka."""

    linear: LinearShape
    components: Components | None
    count: int


@dataclass(frozen=True)
class ResolvedRun:
    """A run's settings with its model's shapes, its task, and the layers that it adapts.

    ``layers`` are those that ``target_modules`` names, also for full fine-tuning, which trains the others as well.
    """

    spec: RunSpec
    shapes: ModelShapes
    task: TaskInfo
    layers: tuple[AdaptedLayer, ...]

    def with_(self, **changes: Any) -> ResolvedRun:
        """The same run with some settings changed, on the same model and task. Raises CdkaError."""
        spec = self.spec.with_(**changes)
        kept = _layer_settings(spec) == _layer_settings(self.spec)
        return replace(self, spec=spec, layers=self.layers if kept else adapted_layers(spec, self.shapes))


def spec_for(model: str, task: str, *, epochs: float | None = None, **settings: Any) -> RunSpec:
    """The full spec of a run: the given settings, then the task's recipe, then the general defaults.

    A setting of None counts as not given, ``lr="auto"`` is the rate of ``learning_rate.recommended``. ``epochs`` stands
    for the steps that pass so often over the training data.
    Raises CdkaError for an unknown task or setting, and for both epochs and steps.
    """
    given = {"engine": AUTO, **{key: value for key, value in settings.items() if value is not None}}
    recipe = recipe_of(find_task(task), model)
    if given.get("method", "cdka") != "cdka":
        recipe.pop("components", None)
    auto = is_auto(given) and bool(given.pop("lr"))
    spec = RunSpec.from_dict({**recipe, **given, "model": model, "task": task})
    if auto:
        spec = spec.with_(lr=recommended(spec).lr)
    if epochs is None:
        return spec
    if "steps" in given:
        raise CdkaError(f"epochs stand in place of steps: got epochs={epochs:g} and steps={spec.steps}. Give one.")
    if not 0 < epochs < math.inf:
        raise CdkaError(f"epochs must be a positive number: got {epochs!r}.")
    return spec.with_(steps=max(1, math.ceil(epochs * training_examples(spec) / spec.batch_size)))


def training_examples(spec: RunSpec) -> int:
    """The number of training examples of the run's task; its data are read where the catalogue does not say."""
    task = find_task(spec.task)
    known = task.examples.get("train")
    if known is not None and not spec.task_options:
        return known
    rows = import_module(task.module).read(task, spec)
    train = rows.splits["train"]
    return len(getattr(train, "labels", train))


def resolve_run(spec: RunSpec) -> ResolvedRun:
    """``resolve_runs`` of one spec."""
    return resolve_runs([spec])[0]


def resolve_runs(specs: Iterable[RunSpec]) -> list[ResolvedRun]:
    """Each run with its model, task and layers looked up; a model's folder becomes an absolute path.

    Each model is looked up once. Raises CdkaError for an unknown model, task or module, for components that do not
    divide (every place is named; with ``indivisible`` only where nothing is left to adapt), and for a model that the
    task cannot train.
    """
    shapes: dict[str, ModelShapes] = {}
    layers: dict[tuple[Any, ...], tuple[AdaptedLayer, ...]] = {}
    runs = []
    for spec in specs:
        if spec.model not in shapes:
            shapes[spec.model] = find_model(spec.model)
        model, task = shapes[spec.model], find_task(spec.task)
        if not fits_kind(task, model):
            made_for = f" Models made for it: {', '.join(task.models)}." if task.models else ""
            raise CdkaError(
                f"the model must suit the task: got {spec.model!r} ({model.kind}) for {spec.task!r} ({task.kind})."
                + made_for
            )
        key = (spec.model, *_layer_settings(spec))
        if key not in layers:
            layers[key] = adapted_layers(spec, model)
        runs.append(ResolvedRun(_with_absolute_folder(spec, model), model, task, layers[key]))
    return runs


def _layer_settings(spec: RunSpec) -> tuple[Any, ...]:
    """The settings that decide which layers are adapted, and how."""
    pattern = tuple(spec.component_pattern.items())
    return spec.method, spec.components, spec.target_modules, pattern, spec.indivisible


def _with_absolute_folder(spec: RunSpec, model: ModelShapes) -> RunSpec:
    """The spec for a worker that runs in another folder."""
    path = expanded(spec.model)
    catalogued = spec.model == model.hub_id or any(spec.model == known.name for known in list_models())
    return spec if catalogued or not path.is_dir() else spec.with_(model=str(path.resolve()))


def adapted_layers(spec: RunSpec, shapes: ModelShapes) -> tuple[AdaptedLayer, ...]:
    """The layers that a run adapts, each with its own components.

    Raises CdkaError naming every place that does not fit. By ``indivisible`` such places are left out or get the
    nearest that fit, and only a run without a layer is refused.
    """
    layers = select(shapes, spec.target_modules)
    if spec.method != "cdka":
        return tuple(AdaptedLayer(layer, None, layer.count) for layer in layers)
    fitted: list[AdaptedLayer] = []
    where: dict[str, list[str]] = {}
    for layer in _placed(spec, layers):
        size = layer.linear.out_features, layer.linear.in_features
        problems = layer.components.problems(*size)
        for problem in problems:
            where.setdefault(problem, []).append(f"'{layer.linear.name}'")
        if problems and spec.indivisible == "skip":
            continue
        fitted.append(replace(layer, components=layer.components.nearest(*size)) if problems else layer)
    if where and (spec.indivisible == "error" or not fitted):
        raise CdkaError(" ".join(f"{problem} In {', '.join(names)}." for problem, names in where.items()))
    return tuple(fitted)


def _placed(spec: RunSpec, layers: Sequence[LinearShape]) -> list[AdaptedLayer]:
    """The layers with their components, ``component_pattern`` read as PEFT reads ``rank_pattern``.

    A key is a regular expression for the whole path or for its end after a dot; the first that matches decides.
    Raises CdkaError for a key that matches no layer.
    """
    if not spec.component_pattern:
        return [AdaptedLayer(layer, spec.components, layer.count) for layer in layers]
    expressions = {key: _expression(key) for key in spec.component_pattern}
    placed: Counter[tuple[LinearShape, Components]] = Counter()
    used: set[str] = set()
    for layer in layers:
        for paths in paths_of(layer):
            key = next((k for k, e in expressions.items() if any(e.match(path) for path in paths)), None)
            used.update(() if key is None else (key,))
            placed[layer, _components_at(spec.component_pattern, key, spec.components)] += 1
    for key in expressions:
        if key not in used:
            names = list(dict.fromkeys(layer.name for layer in layers))
            known = f"Known: {', '.join(names)}."
            raise unknown("module", key, names, where="in component_pattern", next_step=known)
    return [AdaptedLayer(layer, components, count) for (layer, components), count in placed.items()]


def _components_at(pattern: Mapping[str, Components], key: str | None, otherwise: Components) -> Components:
    return otherwise if key is None else pattern[key]


def _expression(key: str) -> re.Pattern[str]:
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except re.error as error:
        raise CdkaError(
            f"component_pattern is keyed by names or regular expressions: got {key!r} ({error}). Example: q_proj."
        ) from None
