"""Read a table of the user's: CSV, TSV, JSON Lines, JSON or Parquet. A bad file is named with its line and the fix."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cdka.errors import CdkaError

FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
LARGEST_BYTES = 2_000_000_000
_SPLIT_FILES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "val": "validation",
    "test": "test",
}
LINE = "__line__"
"""The column that ``read_table`` adds: the line (or row) of the file that each example stands in, from 1."""
SPLIT = "__split__"
"""The column that it adds for a folder of split files."""


def read_table(path: str | Path) -> pd.DataFrame:
    """The rows of a file, or of a folder holding train, validation and test files, with the column ``LINE`` added.

    Values keep their types; empty CSV fields and JSON nulls are None. Raises CdkaError, naming the line and the fix,
    for a file that cannot be read whole: no row is ever dropped.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise CdkaError(f"a data file must exist: got {str(path)!r}. Give the path of a CSV, JSONL or Parquet file.")
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise CdkaError(
            f"a data file must end in {', '.join(FORMATS)}: got {path.name!r}. Save it in one of these formats."
        )
    if path.stat().st_size > LARGEST_BYTES:
        raise CdkaError(f"{path.name} is {path.stat().st_size / 1e9:.1f} GB: at most 2 GB are read whole. Take a part.")
    table = _read_parquet(path) if kind == "Parquet" else _read_lines(path, kind)
    if not len(table):
        raise CdkaError(f"{path.name} holds no rows. Add examples below the column names.")
    table.columns = [str(name) for name in table.columns]
    return table


def _read_folder(folder: Path) -> pd.DataFrame:
    parts = []
    for file in sorted(folder.iterdir()):
        split = _SPLIT_FILES.get(file.stem.lower())
        if split and file.suffix.lower() in FORMATS:
            part = read_table(file)
            part[SPLIT] = split
            parts.append(part)
    if not any((part[SPLIT] == "train").any() for part in parts):
        raise CdkaError(
            f"a data folder must hold a train file (train.csv, train.jsonl, train.parquet): none in {str(folder)!r}."
        )
    columns = [set(part.columns) for part in parts]
    if any(names != columns[0] for names in columns):
        raise CdkaError(f"the split files in {str(folder)!r} must have the same columns: they differ.")
    return pd.concat(parts, ignore_index=True)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises many kinds; all mean the same to the user
        reason = " ".join(str(error).split())[:160]
        raise CdkaError(f"{path.name} is not a Parquet file that can be read: {reason}. Save it again.") from None
    table = table.reset_index(drop=True).astype(object)
    table = table.where(table.notna(), None)
    table[LINE] = range(1, len(table) + 1)
    return table


def _read_lines(path: Path, kind: str) -> pd.DataFrame:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise CdkaError(f"{path.name}, line {line}: not UTF-8 text. Save the file as UTF-8.") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise CdkaError(f"{path.name}, line {line}: a NUL character, so this is not a text file. Save it as UTF-8.")
    if kind in ("CSV", "TSV"):
        return _read_separated(path.name, text, "\t" if kind == "TSV" else _delimiter(text))
    records = _json_lines(path.name, text) if kind == "JSON Lines" else _json_array(path.name, text)
    return pd.DataFrame(_with_all_keys(records), dtype=object)


def _delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that the first line holds most of, outside quotes."""
    first = next(csv.reader(text.splitlines()[:1], delimiter="\0"), [""])
    counts = {sign: sum(sign in part for part in _unquoted(first[0] if first else "")) for sign in ",;\t"}
    return max(counts, key=lambda sign: (counts[sign], sign == ","))


def _unquoted(line: str) -> Iterator[str]:
    inside = False
    for character in line:
        inside ^= character == '"'
        if not inside:
            yield character


def _read_separated(name: str, text: str, delimiter: str) -> pd.DataFrame:
    csv.field_size_limit(10_000_000)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    rows: list[list[Any]] = []
    try:
        header = next(reader, [])
        columns = _checked_columns(name, [column.strip() for column in header])
        before = reader.line_num
        for row in reader:
            line, before = before + 1, reader.line_num
            if not row:
                continue  # an empty line between rows holds no example
            if len(row) != len(columns):
                raise CdkaError(
                    f"{name}, line {line}: {len(row)} fields where the first line names {len(columns)}. Put quotes "
                    "around text that contains the separator."
                )
            rows.append([*(value if value.strip() else None for value in row), line])
    except csv.Error as error:
        raise CdkaError(
            f"{name}, line {reader.line_num}: {error}. A quote inside a quoted text is written twice."
        ) from None
    return pd.DataFrame(rows, columns=[*columns, LINE], dtype=object)


def _checked_columns(name: str, columns: list[str]) -> list[str]:
    if not any(columns):
        raise CdkaError(f"{name}, line 1: no column names. The first line names the columns.")
    for number, column in enumerate(columns, start=1):
        if not column:
            raise CdkaError(f"{name}, line 1: column {number} has no name. Name every column.")
        if columns.count(column) > 1:
            raise CdkaError(f"{name}, line 1: two columns are called {column!r}. Rename one.")
    return columns


def _json_lines(name: str, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise CdkaError(f"{name}, line {number}: not JSON ({error}). Each line is one JSON object.") from None
        if not isinstance(record, dict):
            raise CdkaError(f"{name}, line {number}: got {line.strip()[:40]!r}. Each line is one JSON object.")
        yield {**record, LINE: number}


def _json_array(name: str, text: str) -> Iterator[dict[str, Any]]:
    try:
        records = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            raise CdkaError(f"{name} holds JSON lines, it seems. Rename it to .jsonl.") from None
        raise CdkaError(
            f"{name}: not JSON ({error}). Give a list of objects, or one object a line in a .jsonl."
        ) from None
    if not isinstance(records, list):
        raise CdkaError(f"{name}: must be a list of objects. Or write one object a line in a .jsonl file.")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise CdkaError(f"{name}, item {number}: got {str(record)[:40]!r}. Each item is one JSON object.")
        yield {**record, LINE: number}


def _with_all_keys(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with the same keys: what one does not have is None, so that it is found as missing."""
    listed = list(records)
    keys = dict.fromkeys(key for record in listed for key in record)
    return [{key: record.get(key) for key in keys} for record in listed]
