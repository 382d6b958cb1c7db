"""The modules of version 0.1.0 under the names that they had: scripts written then still run, with a warning.

No module of today has one of these names. Nothing is imported before one is asked for.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

HOMES: Mapping[str, str] = {
    "app.finetune.live": "app.finetune.live_panel",
    "app.finetune.preview": "app.finetune.launch_preview",
    "cdka.budget": "cdka.solver.budget",
    "cdka.compare.intervals": "cdka.stats.intervals",
    "cdka.compare.mcnemar": "cdka.stats.mcnemar",
    "cdka.compare.pareto": "cdka.stats.pareto",
    "cdka.compare.trend": "cdka.stats.trend",
    "cdka.compare.verdicts": "cdka.stats.paired",
    "cdka.engines": "cdka.engine",
    "cdka.engines.check": "cdka.runs.resolve",
    "cdka.engines.launch": "cdka.engine.spawn",
    "cdka.engines.zygote": "cdka.engine.forkserver",
    "cdka.finetune": "cdka.train",
    "cdka.finetune.counts": "cdka.cost.adapter",
    "cdka.finetune.lanes": "cdka.train.member",
    "cdka.finetune.pace": "cdka.train.pack_schedule",
    "cdka.finetune.spec": "cdka.runs.spec",
    "cdka.finetune.team": "cdka.train.distributed",
    "cdka.memory": "cdka.cost.memory",
    "cdka.models.introspect": "cdka.train.read_shapes",
    "cdka.models.loading": "cdka.train.load_model",
    "cdka.models.obtain": "cdka.models.locate",
    "cdka.models.reader": "cdka.train.tokenizer",
    "cdka.studies": "cdka.claims",
    "cdka.sweep.baselines": "cdka.sweep.match",
    "cdka.sweep.packing": "cdka.sweep.pack",
    "cdka.tasks.data": "cdka.train.data.load",
    "cdka.tasks.local": "cdka.tasks.files",
    "cdka.tasks.objectives": "cdka.train.data.objectives",
    "cdka.tasks.splits": "cdka.train.data.splits",
    "cdka.tasks.text": "cdka.train.data.text",
    "cdka.tasks.token_preview": "cdka.train.data.token_preview",
}
"""The home of each module of 0.1.0 that has moved; modules in a package that moved have moved with it."""


def home_of(name: str) -> str | None:
    """The name today of a module of 0.1.0; None for a name that has not changed.

    >>> home_of("cdka.tasks.local.prepare"), home_of("cdka.finetune.spec"), home_of("cdka.solver")
    ('cdka.tasks.files.prepare', 'cdka.runs.spec', None)
    """
    package, end = name, ""
    while package:
        if package in HOMES:
            return HOMES[package] + end
        package, _, last = package.rpartition(".")
        end = f".{last}{end}"
    return None


def resolve(model: str, task: str, **settings: Any) -> Any:
    """The full spec of a run, as ``cdka.finetune.spec.resolve`` made it."""
    return import_module("cdka.runs.resolve").spec_for(model, task, **settings)


def checked(spec: Any) -> Any:
    """The spec ready for a worker, as ``cdka.engines.check.checked`` made it. Raises CdkaError."""
    return import_module("cdka.runs.resolve").resolve_run(spec).spec


def checked_all(specs: Iterable[Any]) -> list[Any]:
    """``checked`` for many specs."""
    return [run.spec for run in import_module("cdka.runs.resolve").resolve_runs(specs)]


def train(
    specs: Sequence[Any], directories: Sequence[Path], control: Callable[[int], str | None] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Fine-tune as ``cdka.finetune.loop.train`` did: specs in, (index of the run, event as a dictionary) out.

    Metrics stand under the names of 0.1.0 beside those of today.
    """
    runs = import_module("cdka.runs.resolve").resolve_runs(specs)
    with_old_names = import_module("cdka.runs.metrics").with_old_names
    for index, event in import_module("cdka.train.loop").train(runs, directories, control):
        body = event.to_dict()
        yield index, {**body, "metrics": with_old_names(body["metrics"])} if body["kind"] == "final" else body


AS_BEFORE: Mapping[str, Mapping[str, Any]] = {
    "cdka.engines.check": {"checked": checked, "checked_all": checked_all},
    "cdka.finetune.loop": {"train": train},
    "cdka.finetune.spec": {"resolve": resolve},
}
"""Functions that take or return something else today, by module: as they were."""


class _Finder:
    """Finds the modules of 0.1.0. Asked first: in a package that moved, others would load its modules twice."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        home = home_of(name) if name.startswith(("cdka.", "app.")) else None
        if home is None or find_spec(home) is None:
            return None
        return spec_from_loader(name, _Loader(name, home))  # type: ignore[arg-type]


class _Loader:
    def __init__(self, name: str, home: str) -> None:
        self.name, self.home = name, home

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f"{self.name} is {self.home} since version 0.2.", DeprecationWarning, stacklevel=2)
        module = import_module(self.home)
        if self.name in AS_BEFORE:
            before = ModuleType(self.name, module.__doc__)
            before.__dict__.update({**vars(module), **AS_BEFORE[self.name], "__name__": self.name})
            return before
        self._spec = module.__spec__  # importlib writes the old name into it
        return module

    def exec_module(self, module: ModuleType) -> None:
        if self.name not in AS_BEFORE:
            module.__spec__ = self._spec


def install() -> None:
    """Have Python find the modules of 0.1.0."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
