"""Runs compared: what ``cdka.compare_runs`` and ``cdka compare`` show."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from cdka.compare.bundle import EXAMPLE, Bundle, example, open_bundle
from cdka.compare.comparison import Comparison, compare
from cdka.compare.headline import Headline, headline
from cdka.compare.measure import FINAL, STEP, Measure, usual_metric
from cdka.compare.new_examples import with_new_examples
from cdka.compare.report import arm_table, document, estimate_header, methods_paragraph
from cdka.compare.source import Source, StoreSource, find_sweep
from cdka.errors import CdkaError, unknown
from cdka.formatting import is_missing
from cdka.notebook.display import Result, figure_theme
from cdka.runs.store import Store

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from cdka.notebook.runs import RunHandle, SweepHandle


class ComparedRuns(Result):
    """Runs compared: arms with intervals over seeds, verdicts, trends. ``comparison`` and ``source`` are behind it."""

    def __init__(self, comparison: Comparison, source: Source) -> None:
        self.comparison, self.source = comparison, source

    @cached_property
    def headline(self) -> Headline | None:
        """The best CDKA arm against LoRA at equal price; None where nothing can be compared."""
        return headline(self.comparison)

    @cached_property
    def _document(self) -> dict[str, Any]:
        found = document(self.comparison)
        with_new_examples(found, self.comparison, self.source)
        return found

    @property
    def verdicts(self) -> pd.DataFrame:
        """The paired comparisons, one row each."""
        return pd.DataFrame(self._document["verdicts"])

    @property
    def trends(self) -> pd.DataFrame:
        """The trends over r1, r2 and r, one row each."""
        return pd.DataFrame(self._document["trends"])

    def lines(self) -> list[str]:
        """The headline, where there is one."""
        header = self.comparison.measure.header
        return [] if self.headline is None else [self.headline.sentence(header)]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per arm, best first; with what was kept where that was judged."""
        arms = arm_table(self.comparison)
        arms["num_params"] = ["" if is_missing(n) else f"{int(n):,}" for n in arms["num_params"]]
        names = ["label", "num_params", "estimate", "front", *(["kept"] if arms["kept"].any() else [])]
        header = ["arm", "parameters", estimate_header(self.comparison), *names[3:]]
        return header, arms[names].to_numpy(dtype=object).tolist()

    def notes(self) -> list[str]:
        """Every verdict and trend in a sentence, what is missing, and what the intervals are about."""
        found = self._document
        lines = [item["text"] for item in (*found["verdicts"][:8], *found["trends"][:6])]
        return [*lines, *found["missing"], *found["scope"]]

    def frame(self) -> pd.DataFrame:
        """One row per arm: settings, parameters, mean, interval, seeds."""
        return self.comparison.arms.copy()

    def runs(self) -> pd.DataFrame:
        """One row per run, ``value`` being what is compared."""
        return self.comparison.frame.copy()

    def methods(self) -> str:
        """A methods paragraph, written from the runs."""
        return methods_paragraph(self.comparison, self.source)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``cdka compare --json``."""
        return self._document

    @property
    def figures(self) -> list[str]:
        """The names of the figures that these runs have."""
        from cdka.compare.exports.figures import makers

        return list(makers(self.comparison, self.source))

    def plot(self, which: str | None = None, *, theme: str | None = None) -> Figure:
        """One of the Compare room's figures with its runs below; the first of ``figures`` where None."""
        from cdka.compare.exports.figures import makers

        known = makers(self.comparison, self.source)
        if which is not None and which not in known:
            raise unknown("figure", which, known)
        return known[which or next(iter(known))](theme=figure_theme(theme))

    def export(self, path: str | Path) -> Path:
        """The path, written as its suffix says: .zip, .csv, .parquet, .py, .ipynb, .html, .png or .svg."""
        from cdka.compare.exports import export

        return export(self.comparison, self.source, Path(path))


def compare_runs(
    runs: SweepHandle | Iterable[RunHandle | str] | str | Path | None = None,
    metric: str | None = None,
    *,
    at: str | None = None,
    step: int | None = None,
    reference: str | None = None,
    choose_lr: bool | None = None,
    looks: int = 1,
    home: str | Path | None = None,
) -> ComparedRuns:
    """Runs compared: arms with intervals over seeds, paired verdicts, trends, and the Compare room's figures.

    ``runs`` is a sweep (its handle, id or name), a list of runs, a claim bundle ``FILE.zip``, ``"example"``, or None
    for the newest sweep. ``metric`` is ``test/accuracy`` where there is one, or what a bundle claims. Where
    ``choose_lr`` is None, each configuration is taken at its best learning rate if the sweep searched over some.
    Raises CdkaError.

    >>> found = cdka.compare_runs("example")
    >>> found.headline.best.label, found.headline.rival.label
    ('cdka 1,8,1', 'lora 4')
    >>> found.figures[:3]
    ['accuracy-curves', 'loss-curves', 'map']
    """
    source, searched = _source(runs, home)
    measure = None
    if isinstance(source, Bundle) and (metric, at, step) == (None, None, None):
        measure, reference = source.measure(), reference or source.reference()
    elif (metric, at, step) != (None, None, None):
        at = at or (FINAL if step is None else STEP)
        measure = Measure(metric or (usual_metric(source.frame()) if at == FINAL else "accuracy"), at, step)
    chosen = searched if choose_lr is None else choose_lr
    return ComparedRuns(compare(source, measure, reference, choose_lr=chosen, looks=looks), source)


def _source(
    runs: SweepHandle | Iterable[RunHandle | str] | str | Path | None, home: str | Path | None
) -> tuple[Source, bool]:
    """(the source of the runs that ``runs`` names, True where they search over learning rates)."""
    if isinstance(runs, str | Path) and (str(runs) == EXAMPLE or str(runs).endswith(".zip")):
        bundle = example() if str(runs) == EXAMPLE else open_bundle(Path(runs))
        return bundle, bundle.choose_lr
    if runs is None or isinstance(runs, str | Path):
        store = Store(home)
        sweep = find_sweep(store, None if runs is None else str(runs))
        return StoreSource(store, [sweep.sweep_id], name=sweep.name), sweep.tunes_lr
    if hasattr(runs, "sweep"):
        handle = cast("SweepHandle", runs)
        return StoreSource(handle.store, [handle.sweep_id], name=handle.name), handle.sweep.tunes_lr
    listed = list(runs)
    if not listed:
        raise CdkaError("runs to compare must be named: got an empty list. Example: cdka.compare_runs([run, other])")
    store = next((run.store for run in listed if not isinstance(run, str)), None) or Store(home)
    ids = [store.find_id(run) if isinstance(run, str) else run.run_id for run in listed]
    return StoreSource(store, run_ids=ids, name=f"{len(ids)} runs"), False
