"""A table of the user's, read whole from one file: CSV, TSV, JSON Lines, JSON, Parquet or Arrow."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cdka.errors import CdkaError
from cdka.paths import expanded, pasted
from cdka.tasks.files.columnar import read_arrow, read_parquet
from cdka.tasks.files.json_files import read_json, read_json_lines
from cdka.tasks.files.separated import read_separated
from cdka.tasks.files.values import Records, is_missing

FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".tab": "TSV",
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".arrow": "Arrow",
}
MAX_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Table:
    """Rows column by column, in the order of the file. A missing value is None; text keeps every character.

    ``lines`` and ``files`` hold the line (or item) of each row, from 1, and the file it stands in. ``splits`` is set
    where a folder's files, or a JSON file's keys, name the splits. ``notes`` tell what was left out or chosen.
    """

    source: str
    columns: Mapping[str, list[Any]]
    lines: Sequence[int]
    files: Sequence[str]
    splits: Sequence[str] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def names(self) -> list[str]:
        """The names of the columns, in the order of the file."""
        return list(self.columns)

    def place(self, row: int) -> str:
        """The file and line of a row, as an error names it."""
        return f"{self.files[row]}, line {self.lines[row]}"

    def take(self, rows: Sequence[int]) -> Table:
        """The table with only ``rows``, in that order."""
        pick = lambda values: [values[row] for row in rows]  # noqa: E731
        return replace(
            self,
            columns={name: pick(values) for name, values in self.columns.items()},
            lines=pick(self.lines),
            files=pick(self.files),
            splits=None if self.splits is None else pick(self.splits),
        )

    def head(self, rows: int) -> pd.DataFrame:
        """The first rows as a data frame, for display."""
        return pd.DataFrame({name: values[:rows] for name, values in self.columns.items()}, dtype=object)


def format_of(path: Path) -> str | None:
    """The format that a file's ending names (``reviews.csv``, ``reviews.csv.gz``); None for another ending."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def looks_like_data(text: str) -> bool:
    """True where a text names a file or folder rather than a task of the catalogue."""
    path = Path(pasted(text))
    return format_of(path) is not None or expanded(path).exists()


def read_file(path: Path, source: str = "") -> Table:
    """The rows of one file, called ``source`` in errors (default: its name).

    Raises CdkaError, naming the line and the fix, for what cannot be read whole or can be read in two ways: no row is
    ever dropped in silence.
    """
    if not path.is_file():
        raise CdkaError(f"a data file must exist: got {str(path)!r}. Give the path of a CSV, JSONL or Parquet file.")
    kind, name = format_of(path), source or path.name
    if kind is None:
        hint = (
            " In a spreadsheet, choose Save as, CSV UTF-8." if path.suffix.lower() in (".xlsx", ".xls", ".ods") else ""
        )
        raise CdkaError(
            f"a data file must end in {', '.join(FORMATS)}: got {name!r}.{hint or ' Save it in one of these formats.'}"
        )
    if path.stat().st_size > MAX_BYTES:
        raise CdkaError(f"{name} is {path.stat().st_size / 1e9:.1f} GB: at most 2 GB are read whole. Take a part.")
    _check_is_data(path, name)
    read = {
        "CSV": partial(read_separated, tabs=False),
        "TSV": partial(read_separated, tabs=True),
        "JSON Lines": read_json_lines,
        "JSON": read_json,
    }.get(kind)
    if read is not None:
        records = read(name, text_of(path, name))
    else:
        records = (read_parquet if kind == "Parquet" else read_arrow)(name, path)
    return _table(name, records)


def _check_is_data(path: Path, name: str) -> None:
    """Raises CdkaError for what a failed download leaves in place of a file: a web page, or a pointer to the data."""
    with path.open("rb") as file:
        begin = file.read(200).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if begin.startswith(b"version https://git-lfs"):
        raise CdkaError(f"{name} is a pointer of Git LFS, not the data themselves. Fetch them with: git lfs pull")
    if begin.startswith((b"<!doctype html", b"<html")):
        raise CdkaError(f"{name} is a web page, not data. Download the raw file.")


def _table(name: str, records: Records) -> Table:
    if not records.lines:
        raise CdkaError(f"{name} holds no rows. Add examples below the column names.")
    columns = {
        column: [None if is_missing(value) else value for value in values] for column, values in records.columns.items()
    }
    return Table(name, columns, records.lines, [name] * len(records.lines), records.splits, records.notes)


def text_of(path: Path, name: str) -> str:
    """The text of a file, unpacked where it is a .gz. A byte order mark names UTF-8 or UTF-16; without one it is UTF-8.

    Raises CdkaError, with the line, for what is no text.
    """
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise CdkaError(f"{name} cannot be unpacked: {error}. Fetch or pack it again.") from None
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CdkaError(f"{name}, line {line}: not UTF-8 text. Save the file as UTF-8.") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise CdkaError(f"{name}, line {line}: a NUL character, so this is not a text file. Save it as UTF-8.")
    return text
