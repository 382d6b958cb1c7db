"""Exports of a comparison: tables, figures, a script, a notebook, TensorBoard files, adapters, a claim bundle."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.errors import CdkaError, unknown
from cdka.runs.frames import csv

SUFFIXES = (".zip", ".csv", ".parquet", ".py", ".ipynb", ".html", ".png", ".svg")


def table(comparison: Comparison, shown: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per run of the shown arms (of all by default): the frame of the comparison, ``value`` its measure."""
    frame = comparison.frame
    return (frame if shown is None else frame[frame["arm"].isin(shown)]).reset_index(drop=True)


def parquet(frame: pd.DataFrame) -> bytes:
    """A table as Parquet; columns of mixed values are written as text."""
    mixed = [c for c in frame.columns if frame[c].dtype == object and frame[c].map(type).nunique() > 1]
    buffer = io.BytesIO()
    frame.assign(**{c: frame[c].map(lambda v: None if v is None else str(v)) for c in mixed}).to_parquet(buffer)
    return buffer.getvalue()


def zipped(fill: Callable[[Path], object]) -> bytes:
    """A zip of whatever ``fill`` writes into the folder it is given."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    file.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


def _write_figure(comparison: Comparison, source: Source, target: Path) -> None:
    from cdka.compare.exports import figures

    known = figures.makers(comparison, source)
    if target.stem not in known:
        raise unknown("figure", target.stem, known, next_step="Name the file after one of them.")
    target.write_bytes(figures.file(known[target.stem], target.suffix[1:]))


def export(comparison: Comparison, source: Source, target: Path) -> Path:
    """``target``, written as its suffix says: a claim bundle, the table of runs, the script or the notebook
    (their data beside them as ``.json``), or the figure that the file is named after (``map.svg``).

    Raises CdkaError for another suffix and where the file cannot be written.
    """
    from cdka.compare.bundle import write_bundle
    from cdka.compare.exports.script import write_reproduction

    def write_again(part: Path) -> None:
        write_reproduction(part.parent, comparison, source, name=part.stem, suffixes=(part.suffix,))

    writers = {
        ".zip": lambda part: write_bundle(comparison, source, part),
        ".csv": lambda part: part.write_bytes(csv(table(comparison))),
        ".parquet": lambda part: part.write_bytes(parquet(table(comparison))),
        **dict.fromkeys((".py", ".ipynb"), write_again),
        **dict.fromkeys((".html", ".png", ".svg"), lambda part: _write_figure(comparison, source, part)),
    }
    if target.suffix not in writers:
        raise CdkaError(f"an export is one of {', '.join(SUFFIXES)}: got {target.name!r}. Example: --export claim.zip")
    try:
        writers[target.suffix](target)
    except OSError as error:
        raise CdkaError(f"{target} could not be written ({error.strerror}). Name a folder you can write to.") from None
    return target
