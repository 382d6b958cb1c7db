"""Read JSON Lines, and the layouts in which JSON files hold tables: as people, pandas and the Hub write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cdka.errors import CdkaError
from cdka.tasks.files.split import split_named
from cdka.tasks.files.values import Records, from_objects

_RECORDS = ("data", "rows", "records", "examples", "items", "instances")


class _Refused(ValueError):
    """A rule of ours that the JSON breaks."""


def read_json_lines(name: str, text: str) -> Records:
    """One object a line. A record ends at LF or CRLF only; other line separators of Unicode are text.

    Raises CdkaError with the line.
    """
    if text.lstrip()[:1] == "[" and not _first_line_parses(text):
        return read_json(name, text)
    objects, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _parse(line)
        except ValueError as error:
            raise CdkaError(
                f"{name}, line {number}: not JSON ({_reason(error)}). Each line is one JSON object."
            ) from None
        if not isinstance(record, dict):
            raise CdkaError(f"{name}, line {number}: got {line.strip()[:40]!r}. Each line is one JSON object.")
        objects.append(record)
        lines.append(number)
    return from_objects(objects, lines)


def read_json(name: str, text: str) -> Records:
    """A list of objects, an object that holds one, one of columns, one list a split, or JSON Lines after all.

    The layouts that pandas writes (records, table, split, columns, index) are among them. Raises CdkaError.
    """
    try:
        found = _parse(text)
    except ValueError as error:
        if text.lstrip().startswith("{") and _first_line_parses(text):
            return read_json_lines(name, text)
        line = getattr(error, "lineno", None)
        where = f"{name}, line {line}" if line else name
        raise CdkaError(
            f"{where}: not JSON ({_reason(error)}). Give a list of objects, or one object a line in a .jsonl."
        ) from None
    if isinstance(found, dict):
        return _from_object(name, found)
    if not isinstance(found, list):
        raise CdkaError(f"{name}: must be a list of objects. Or write one object a line in a .jsonl file.")
    return from_objects(_objects(name, found), range(1, len(found) + 1))


def _from_object(name: str, found: dict[str, Any]) -> Records:
    held = [key for key in _RECORDS if isinstance(found.get(key), list)]
    if set(found) >= {"columns", "data"} and all(isinstance(row, list) for row in found["data"]):
        return _rows_of_columns(name, found["columns"], found["data"])
    if len(held) == 1 and all(isinstance(row, dict) for row in found[held[0]]):
        others = [key for key in found if key != held[0]]
        notes = (f"{name}: read from {held[0]!r}; beside it and not used: {', '.join(others)}.",) if others else ()
        return from_objects(_objects(name, found[held[0]]), range(1, len(found[held[0]]) + 1), notes)
    splits = {key: split_named(key) for key in found}
    if found and all(splits.values()) and all(isinstance(rows, list) for rows in found.values()):
        objects = [row for key, rows in found.items() for row in _objects(f"{name}, {key}", rows)]
        lines = [number for rows in found.values() for number in range(1, len(rows) + 1)]
        return from_objects(objects, lines, (), [splits[key] for key, rows in found.items() for _ in rows])
    if found and all(isinstance(values, list) for values in found.values()):
        lengths = {len(values) for values in found.values()}
        if len(lengths) == 1:
            return Records(dict(found), list(range(1, lengths.pop() + 1)))
    if found and all(isinstance(values, dict) for values in found.values()):
        return _nested(name, found)
    raise CdkaError(
        f"{name}: must be a list of objects, got an object with {', '.join(map(repr, list(found)[:5]))}. Write one "
        "object a line in a .jsonl file."
    )


def _rows_of_columns(name: str, columns: Any, rows: list[list[Any]]) -> Records:
    if not isinstance(columns, list) or any(len(row) != len(columns) for row in rows):
        raise CdkaError(f"{name}: each list in 'data' must be as long as 'columns'. Save the table again.")
    names = [str(column) for column in columns]
    return Records({key: [row[i] for row in rows] for i, key in enumerate(names)}, list(range(1, len(rows) + 1)))


def _nested(name: str, found: Mapping[str, dict[str, Any]]) -> Records:
    """Columns of rows or rows of columns: the level whose keys are whole numbers holds the rows."""
    inner = list(dict.fromkeys(key for values in found.values() for key in values))
    if _are_row_numbers(inner) and not _are_row_numbers(list(found)):
        columns = {str(key): [values.get(row) for row in inner] for key, values in found.items()}
        return Records(columns, list(range(1, len(inner) + 1)))
    if _are_row_numbers(list(found)):
        return from_objects(found.values(), range(1, len(found) + 1))
    raise CdkaError(f"{name}: neither level of this object is numbered, so its rows cannot be found. Write a list.")


def _are_row_numbers(keys: list[str]) -> bool:
    return bool(keys) and all(re.fullmatch(r"\d+", str(key)) for key in keys)


def _objects(name: str, found: list[Any]) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(found, start=1):
        if not isinstance(record, dict):
            raise CdkaError(f"{name}, item {number}: got {str(record)[:40]!r}. Each item is one JSON object.")
        yield record


def _parse(text: str) -> Any:
    """The JSON value. Raises ValueError, for a key written twice and for half a surrogate pair too."""
    value = json.loads(text, object_pairs_hook=_unique)
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _Refused("half a surrogate pair in a text, which is no character") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise _Refused(f"the key {twice!r} stands twice in one object")
    return found


def _first_line_parses(text: str) -> bool:
    try:
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    except ValueError:
        return False


def _reason(error: ValueError) -> str:
    return " ".join(str(error).split())[:120]
