"""The options of a budget as a table: what ``cdka.solve`` returns, and what the Design room lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cdka import formatting
from cdka.adapter_files.serving import VLLM_RANKS
from cdka.components import Components
from cdka.machine import Device, detect_device
from cdka.notebook.display import Result, figure_theme, on_its_paper
from cdka.solver.budget import Budget
from cdka.solver.default_option import Advice, advise, sentence
from cdka.solver.guidelines import PRESETS
from cdka.solver.option import Option
from cdka.solver.resources import Setting, fitting_rows
from cdka.solver.search import Model, Solution, explore

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

MAX_ROWS = 300


@dataclass(frozen=True)
class Listing:
    """The options that the table shows, best first, with what training each takes; ``total`` is how many there are."""

    options: list[Option]
    total: int
    memory: np.ndarray | None
    fits: np.ndarray | None


def listed(solution: Solution, which: str, advice: Advice, max_export_rank: int | None) -> Listing:
    """The options to list, the advised one first, at most 300."""
    c = solution.columns
    keep = np.ones(len(c), dtype=bool)
    if which == "Pareto front":
        keep = solution.pareto.copy()
    elif which == "LoRA":
        keep = (c.r1 == 1) & (c.r2 == 1)
    if max_export_rank is not None:
        keep &= c.export_rank <= max_export_rank
    rows = np.flatnonzero(keep)
    first = solution.row(advice.option.components)
    if first is not None and keep[first] and not solution.weights:
        rows = np.r_[first, rows[rows != first]]
    shown = rows[:MAX_ROWS]
    memory, fits = fitting_rows(solution, advice.setting, advice.device)
    return Listing(
        solution.at(shown),
        len(rows),
        None if memory is None else memory[shown],
        None if fits is None else fits[shown],
    )


def frame(listing: Listing, advised: Components, device: Device | None) -> pd.DataFrame:
    """The columns of ``columns_of`` as a DataFrame."""
    import pandas as pd  # here, so that counting options needs no pandas

    return pd.DataFrame(columns_of(listing, advised, device))


def columns_of(listing: Listing, advised: Components, device: Device | None) -> dict[str, list[Any]]:
    """The table's columns, shares as percentages; the score only where objectives are weighed."""
    options = listing.options
    columns: dict[str, list[Any]] = {
        "": ["take this" if o.components == advised else "" for o in options],
        "r1": [o.r1 for o in options],
        "r2": [o.r2 for o in options],
        "r": [o.r for o in options],
        "alignment": [o.alignment for o in options],
        "memory": ["–"] * len(options) if listing.memory is None else [formatting.size(m) for m in listing.memory],
        "arithmetic": [100 * o.flops_overhead for o in options],
        "parameters": [o.num_params for o in options],
        "budget": [100 * o.budget_used for o in options],
        "rank": [o.rank_bound for o in options],
        "LoRA export": [o.export_rank for o in options],
        "server": [server_class(o.export_rank) for o in options],
        "Pareto": ["●" if o.pareto else "" for o in options],
        "guideline": [", ".join(PRESETS[name].short for name in o.presets) for o in options],
        "scaling": [o.scaling for o in options],
        "file": [o.adapter_bytes / 1e6 for o in options],
    }
    if listing.fits is not None and not listing.fits.all():
        name = "the device" if device is None else device.name
        columns["fits"] = ["yes" if fit else f"no: more than {name} has" for fit in listing.fits]
    if options and options[0].score is not None:
        columns = {"score": [o.score for o in options], **columns}
    return columns


_WRITTEN: dict[str, Callable[[Any], str]] = {
    "alignment": "{:.3f}".format,
    "parameters": "{:,}".format,
    "arithmetic": lambda value: formatting.percent(value / 100),
    "budget": lambda value: formatting.percent(value / 100),
    "file": lambda value: formatting.size(value * 1e6),
}


def rows_of(columns: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[list[Any]]:
    """The rows of some columns of ``columns_of``, numbers as people read them."""
    plain: Callable[[Any], Any] = lambda value: value  # noqa: E731
    written = [map(_WRITTEN.get(name, plain), columns[name]) for name in names]
    return [list(row) for row in zip(*written, strict=True)]


def server_class(export_rank: int) -> str:
    """The smallest ``--max-lora-rank`` of vLLM that serves an export of this rank; ``merge`` beyond the largest."""
    return next((str(value) for value in VLLM_RANKS if value >= max(8, export_rank)), "merge")


_DRAWN = ("", "r1", "r2", "r", "parameters", "alignment", "rank", "memory", "arithmetic", "LoRA export", "guideline")
"""The columns that are drawn; ``frame()`` has the others."""


class Options(Result, Sequence[Option]):
    """Every (r1, r2, r) under a budget, best first, as a sequence of ``Option``; drawn with the advice on top.

    ``advice`` names the option to take, with its reason; ``solution`` holds the columns behind the options.
    """

    def __init__(
        self,
        solution: Solution,
        *,
        setting: Setting | None = None,
        device: Device | None = None,
        max_export_rank: int | None = None,
    ) -> None:
        self.solution = solution
        self.advice: Advice = advise(solution, setting=setting, device=device, max_export_rank=max_export_rank)
        self._max_export_rank = max_export_rank

    def __len__(self) -> int:
        return len(self.solution)

    @overload
    def __getitem__(self, place: int) -> Option: ...

    @overload
    def __getitem__(self, place: slice) -> list[Option]: ...

    def __getitem__(self, place: int | slice) -> Option | list[Option]:
        rows = range(len(self))[place]
        return self.solution.at([rows])[0] if isinstance(rows, int) else self.solution.at(list(rows))

    def __iter__(self) -> Iterator[Option]:
        return iter(self.solution.options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _listing(self) -> Listing:
        return listed(self.solution, "all", self.advice, self._max_export_rank)

    def lines(self) -> list[str]:
        """The advice in a sentence, and what to take for another wish."""
        others = [
            f"For {wish}: r1 {o.r1} · r2 {o.r2} · r {o.r}, {formatting.count(o.num_params)} parameters, "
            f"rank up to {o.rank_bound:,}."
            for wish, o in self.advice.others.items()
        ]
        return [sentence(self.advice, self.solution), *others]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """The first columns of ``frame``, formatted."""
        columns = columns_of(self._listing, self.advice.option.components, self.advice.device or detect_device())
        return list(_DRAWN), rows_of(columns, _DRAWN)

    def notes(self) -> list[str]:
        """The number of options, and the modules that they are for."""
        s = self.solution
        return [
            f"{len(self):,} options within {s.budget_params:,} parameters on {s.num_modules} modules "
            f"({', '.join(s.target_names)}); the advised one first, then by alignment, of equal ones the leanest."
        ]

    def frame(self) -> pd.DataFrame:
        """One row per option, in the order of the sequence: every field of ``Option``, ``advised``, memory in bytes."""
        import pandas as pd

        table = pd.DataFrame([option.to_dict() for option in self])
        memory, _ = fitting_rows(self.solution, self.advice.setting, self.advice.device)
        table["memory_bytes"] = pd.NA if memory is None else memory
        table["advised"] = False
        row = self.solution.row(self.advice.option.components)
        if row is not None:
            table.loc[row, "advised"] = True
        return table

    def to_dict(self) -> dict[str, Any]:
        """The document of ``cdka solve --json``."""
        return {**self.solution.to_json(), "advice": self.advice.to_dict()}

    def plot(self, measure: str = "alignment", *, theme: str | None = None) -> Figure:
        """The Design room's scatter: parameters against ``alignment`` or ``rank_bound``; the advised one has a ring."""
        from cdka.compare.figures.options import MEASURES, option_figure
        from cdka.errors import unknown

        if measure not in MEASURES:
            raise unknown("measure", measure, MEASURES)
        colours = figure_theme(theme)
        return on_its_paper(option_figure(self.solution, measure, self.advice.option, theme=colours), colours)


def solve(
    model: Model,
    budget: str | int | float | Budget,
    *,
    setting: Setting | None = None,
    device: Device | None = None,
    max_export_rank: int | None = None,
    **settings: Any,
) -> Options:
    """Every (r1, r2, r) within a budget, best first: a sequence of options, drawn as a table with the advice on top.

    ``model`` is a name, a Hub id, a folder, shapes, or a list of (out, in); ``budget`` a number of parameters,
    ``"0.3%"`` of the model, ``"lora:8"`` or ``"4MB"``. ``settings`` are those of ``cdka.solver.explore``
    (``target_modules``, ``max_r1``, ``weights``, ...). Needs no torch. Raises CdkaError.

    >>> options = cdka.solve("llama-2-7b", "0.3%")
    >>> options.advice.option.components
    Components(r1=2, r2=8, r=3)
    >>> options[0].num_params, len(options)
    (17172480, 240)
    """
    solution = explore(model, budget, **settings)
    return Options(solution, setting=setting, device=device, max_export_rank=max_export_rank)
