"""Results of the verbs besides options, runs and comparisons: alignment, catalogues, adapters, answers, a place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pandas as pd

from cdka.adapter_files import AdapterFile
from cdka.adapter_files.adapter_file import AdaptedModule, describe_module
from cdka.adapter_files.serving import serving_plan
from cdka.align.record import AlignRecord
from cdka.compare.anatomy import LayerFactors, layers_of, placed, title_of
from cdka.components import PAPER_DEFAULT, Components
from cdka.errors import unknown
from cdka.models.shapes import ModelShapes, to_json
from cdka.notebook.display import Result, figure_theme, on_its_paper
from cdka.tasks.info import TaskInfo

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from cdka.adapter.place import PlacedModule

Item = TypeVar("Item")


class Alignment(Result):
    """Predicted, measured and best possible alignment of every (r1, r2, r) of a grid; ``record`` is the measurement."""

    def __init__(self, record: AlignRecord) -> None:
        self.record = record

    def lines(self) -> list[str]:
        """The model, the data and the effort of the measurement."""
        asked = self.record.request
        return [
            f"{asked.model} on {asked.task}: first steps against full fine-tuning's, as cosines, on {asked.batches} x "
            f"{asked.batch_size} examples (seed {asked.seed}) and {asked.inits} initialisations."
        ]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per option, best measured first."""
        rows = sorted(self.record.to_json()["overall"], key=lambda row: -row["measured"])
        names = ("predicted", "measured", "measured_sd", "best")
        return ["r1", "r2", "r", "parameters", "predicted", "measured", "spread", "best possible"], [
            [row["r1"], row["r2"], row["r"], f"{row['num_params']:,}", *(f"{row[name]:.3f}" for name in names)]
            for row in rows
        ]

    def notes(self) -> list[str]:
        """The layers that were measured."""
        record = self.record
        return [
            f"{record.sampled_modules} of {record.target_modules} modules, weighed by the energy of their gradients; "
            "spread: SD over initialisations; best possible: any A_i."
        ]

    def frame(self) -> pd.DataFrame:
        """One row per option: see ``AlignRecord``."""
        return self.record.overall_frame()

    def layers(self) -> pd.DataFrame:
        """One row per layer and option."""
        return self.record.layers_frame()

    def to_dict(self) -> dict[str, Any]:
        """The document of ``cdka align --json``."""
        return self.record.to_json()

    def plot(self, components: Components | Sequence[int] | str | None = None, *, theme: str | None = None) -> Figure:
        """The Align room's figure: predicted against measured, the option ``components`` ringed."""
        from cdka.compare.figures.alignment import agreement_figure

        rows = self.frame()
        default = PAPER_DEFAULT if PAPER_DEFAULT.as_tuple() in _triples(rows) else Components(*_triples(rows)[-1])
        chosen = default if components is None else Components.parse(components)
        colours = figure_theme(theme)
        return on_its_paper(agreement_figure(rows, chosen, self.record.request.step, theme=colours), colours)


def _triples(rows: pd.DataFrame) -> list[tuple[int, ...]]:
    return [tuple(map(int, row)) for row in rows[["r1", "r2", "r"]].to_numpy()]


class Listed(Result, Sequence[Item]):
    """A sequence that draws itself."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = list(items)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        return self._items[place]


class Models(Listed[ModelShapes]):
    """The models known by name, as a sequence of ``ModelShapes``."""

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per model, embedded ones first."""
        return ["name", "parameters", "kind", "family", "embedded", "Hub id", "licence"], [
            [m.name, f"{m.base_params:,}", m.kind, m.family, "yes" if m.embedded else "", m.hub_id, m.licence]
            for m in self._items
        ]

    def frame(self) -> pd.DataFrame:
        """One row per model, without its layers."""
        rows = [{key: value for key, value in to_json(m).items() if key != "linears"} for m in self._items]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``cdka models --json``."""
        return {"models": [to_json(shapes) for shapes in self._items]}


class Tasks(Listed[TaskInfo]):
    """The tasks known by name, as a sequence of ``TaskInfo``."""

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per task, embedded ones first."""
        splits = ("train", "validation", "test")
        return ["name", "kind", "metric", *splits, "made for"], [
            [t.name, t.kind, t.metric, *(t.examples.get(s, "") for s in splits), ", ".join(t.models) or "any"]
            for t in self._items
        ]

    def to_dict(self) -> dict[str, Any]:
        """The document of ``cdka tasks --json``."""
        names = ("name", "kind", "metric", "chance", "embedded", "licence", "description")
        return {
            "tasks": [
                {
                    **{name: getattr(task, name) for name in names},
                    "models": list(task.models),
                    "examples": dict(task.examples),
                    "recipe": dict(task.recipe),
                }
                for task in self._items
            ]
        }


class OpenedAdapter(Result):
    """An adapter file of any kind, opened: its place in (r1, r2, r) and where it can be served.

    ``file`` is the adapter itself (``cdka.adapter_files.AdapterFile``); its attributes can be read here too.
    """

    kind: str
    method: str
    modules: tuple[AdaptedModule, ...]
    num_params: int
    rank: int

    def __init__(self, file: AdapterFile, path: str | Path) -> None:
        self.file, self._path = file, Path(path)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in dir(self.file) if name[0] != "_")})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "file":
            raise AttributeError(name)
        return getattr(self.file, name)

    @cached_property
    def _layers(self) -> list[LayerFactors]:
        return layers_of(self.file)

    def lines(self) -> list[str]:
        """Its kind and its size."""
        return [title_of(self.file, self._path)]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Counts of modules by (r1, r2, r)."""
        rows = placed(self._layers).to_numpy().tolist()
        return ["r1", "r2", "r", "modules", "parameters"], [[*row[:4], f"{row[4]:,}"] for row in rows]

    def notes(self) -> list[str]:
        """Its serving as LoRA, and remarks of the reader."""
        plan = serving_plan(self.file, "lora")
        return [f"As a LoRA of rank {plan.rank}: {' '.join(plan.lines)}", *self.file.notes]

    def frame(self) -> pd.DataFrame:
        """One row per module."""
        return self.file.frame()

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the kind, sizes, and every module."""
        return {
            "kind": self.file.kind,
            "method": self.file.method,
            "num_params": self.file.num_params,
            "rank": self.file.rank,
            "modules": [describe_module(module) for module in self.file.modules],
            "notes": list(self.file.notes),
        }

    def plot(self, layer: str | None = None, *, theme: str | None = None) -> Figure:
        """One layer taken apart as in Compare, its factors, delta W and blocks; the first layer where None."""
        from cdka.compare.figures.anatomy import factor_figure

        known = {factors.layer: factors for factors in self._layers}
        if layer is not None and layer not in known:
            raise unknown("layer", layer, known)
        colours = figure_theme(theme)
        return on_its_paper(factor_figure(known[layer or next(iter(known))], theme=colours), colours)


class Answers(Listed[Mapping[str, Any]]):
    """The answers of several models to one prompt, in the order asked; ``text`` is that of the adapter."""

    def __init__(self, prompt: str, answers: Iterable[Mapping[str, Any]]) -> None:
        super().__init__(answers)
        self.prompt = prompt

    @property
    def text(self) -> str:
        """The adapter's answer."""
        return str(self._items[-1]["text"])

    def lines(self) -> list[str]:
        """The prompt."""
        return [self.prompt]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per model."""
        return ["who", "answer", "seconds"], [[a["who"], a["text"], f"{a['seconds']:.2f}"] for a in self._items]

    def to_dict(self) -> dict[str, Any]:
        """The document of ``cdka try --json``."""
        return {"answers": [dict(answer) for answer in self._items]}


class Description(Result):
    """The place of a live PEFT model: components, parameters, rank and predicted alignment of every adapted module."""

    def __init__(self, title: str, modules: Sequence[PlacedModule]) -> None:
        self.title, self.modules = title, tuple(modules)

    @property
    def num_params(self) -> int:
        """Parameters of the adapter on all modules."""
        return sum(module.num_params for module in self.modules)

    def lines(self) -> list[str]:
        """The model and its adapter in a sentence."""
        return [f"{self.title}: {len(self.modules)} modules, {self.num_params:,} adapter parameters."]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per module."""
        header = ["module", "method", "r1", "r2", "r", "out", "in", "parameters", "rank up to", "alignment", "scaling"]
        return header, [
            [
                m.path,
                m.method,
                *m.components.as_tuple(),
                m.out_features,
                m.in_features,
                f"{m.num_params:,}",
                m.rank_bound,
                f"{m.alignment:.3f}",
                f"{m.scaling:.3g}",
            ]
            for m in self.modules
        ]

    def frame(self) -> pd.DataFrame:
        """One row per module, with plain numbers."""
        return pd.DataFrame([_row(module) for module in self.modules])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"title": self.title, "num_params": self.num_params, "modules": [_row(m) for m in self.modules]}


def _row(module: PlacedModule) -> dict[str, Any]:
    row = asdict(module)
    row |= row.pop("components")
    return {**row, "rank_bound": module.rank_bound, "alignment": module.alignment}
