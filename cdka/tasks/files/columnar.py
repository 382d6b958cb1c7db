"""Read Parquet and Arrow files through pyarrow, with the label names that the Hub's ``datasets`` keeps in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.tasks.files.values import Records, plain

_INDEX = "__index_level_"


def read_parquet(name: str, path: Path) -> Records:
    """The columns of a Parquet file as Python values. Raises CdkaError for one that cannot be read."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except Exception as error:  # pyarrow raises many kinds; all mean the same to the user
        raise _unreadable(name, "Parquet", error) from None
    return _records(table)


def read_arrow(name: str, path: Path) -> Records:
    """The columns of an Arrow file or stream, as ``datasets.save_to_disk`` and Feather write them."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(path), "rb") as source:
            magic = source.read(6)
            source.seek(0)
            opened = pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)
            table = opened.read_all()
    except Exception as error:  # as above
        raise _unreadable(name, "Arrow", error) from None
    return _records(table)


def _records(table: Any) -> Records:
    names = _class_names(table.schema.metadata or {})
    columns: dict[str, list[Any]] = {}
    for column in table.column_names:
        if column.startswith(_INDEX):
            continue  # pandas keeps its row numbers there
        values = plain(table.column(column).to_pylist())
        words = names.get(column)
        if words:
            values = [words[v] if isinstance(v, int) and 0 <= v < len(words) else v for v in values]
        columns[str(column)] = values
    return Records(columns, list(range(1, table.num_rows + 1)))


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """The names of class labels by column, from the metadata of ``datasets``."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            column: list(feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, ValueError, TypeError):
        return {}


def _unreadable(name: str, kind: str, error: Exception) -> CdkaError:
    reason = " ".join(str(error).split())[:160].rstrip(".")
    return CdkaError(f"{name} is not a {kind} file that can be read: {reason}. Save it again.")
