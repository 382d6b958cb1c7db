"""One reading of a value for every format: missing, text, number, label. ``7`` in CSV is what it is in JSON.

A text file holds characters where JSON and Parquet hold numbers; the same rules apply to both, so that a table means
the same in every format.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdka.errors import CdkaError

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PADDED = re.compile(r"[-+]?0\d+")
_TRUTH = {"true": True, "false": False}
Place = Callable[[int], str]
"""From a row to its file and line, for errors."""


def is_missing(value: Any) -> bool:
    """Returns True for null, NaN and text without a visible character."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, float | np.floating | decimal.Decimal) and math.isnan(value)


def plain(value: Any) -> Any:
    """The value as JSON would hold it: NumPy scalars, decimals and dates become Python numbers and text."""
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


def texts_of(column: str, values: Sequence[Any], place: Place) -> list[str | None]:
    """A column as text: numbers as they are written, truth values as true and false, None where missing.

    Raises CdkaError, with the first line, for lists, objects and bytes: they would be trained on as Python's notation.
    """
    found: list[str | None] = []
    for row, value in enumerate(values):
        if isinstance(value, dict | list | bytes):
            what = {dict: "an object", list: "a list", bytes: "bytes"}[type(value)]
            raise CdkaError(
                f"{place(row)}: column {column!r} must hold text, got {what} ({str(value)[:40]!r}). Choose another "
                "column, or write the text itself in a column of its own."
            )
        found.append(None if value is None else _text(value))
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def numbers_of(column: str, values: Sequence[Any], place: Place) -> list[float | None]:
    """A column as numbers, None where missing. In text, a comma is a decimal sign or separates thousands.

    Raises CdkaError, with the line, for a value that is no finite number, and for commas that can be read both ways.
    """
    comma = _comma(column, values, place)
    found: list[float | None] = []
    for row, value in enumerate(values):
        number = None if value is None else _number(value, comma)
        if value is not None and (number is None or not math.isfinite(number)):
            raise CdkaError(
                f"{place(row)}: column {column!r} must hold numbers: got {str(value)[:40]!r}. Correct the value, or "
                "choose another column."
            )
        found.append(number)
    return found


def are_numbers(values: Sequence[Any]) -> bool:
    """Returns True where every value that is not missing is a number; codes like 007 and truth values are not."""
    known = [value for value in values if value is not None]
    return bool(known) and all(_looks_numeric(value) for value in known)


def are_measurements(values: Sequence[Any]) -> bool:
    """Returns True for a column of numbers that are not all whole: a quantity, no class."""
    if not are_numbers(values):
        return False
    return any(isinstance(value, str) and "," in value for value in values) or any(
        value is not None and not float(value).is_integer() for value in values
    )


def labels_of(column: str, values: Sequence[Any], place: Place) -> list[str | None]:
    """A column as label names, None where missing: ``1``, ``1.0`` and ``"1"`` are one label, as are true and True.

    Raises CdkaError, with the first line, for measurements and for values that are no word.
    """
    if are_measurements(values):
        row = next(i for i, value in enumerate(values) if value is not None and not _whole(value))
        raise CdkaError(
            f"{place(row)}: a label is a word or a whole number: got {values[row]!r} in {column!r}, a column of "
            f"measurements. To predict the number itself use --number-column {column} (regression); else choose "
            "another label column."
        )
    numeric = are_numbers(values)
    truths = all(value is None or _truth(value) is not None for value in values)
    found: list[str | None] = []
    for row, value in enumerate(values):
        if isinstance(value, dict | list | bytes):
            raise CdkaError(
                f"{place(row)}: a label is a word or a whole number: got {str(value)[:40]!r} in {column!r}. Choose "
                "another label column."
            )
        if value is None:
            found.append(None)
        elif truths:
            found.append(str(_truth(value)).lower())
        else:
            found.append(_whole_number(value) if numeric or _is_whole_number(value) else _text(value).strip())
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """The different label names, in the order of numbers where they are whole numbers, then of words."""
    numbered = lambda name: re.fullmatch(r"-?\d+", name)  # noqa: E731
    return sorted(set(names), key=lambda name: (0, int(name), "") if numbered(name) else (1, 0, name))


def _whole_number(value: Any) -> str:
    text = str(value).strip()
    return str(int(text)) if re.fullmatch(r"[-+]?\d+", text) else str(int(float(text)))


def _is_whole_number(value: Any) -> bool:
    return _looks_numeric(value) and _whole(value)


def _truth(value: Any) -> bool | None:
    return _TRUTH.get(value.strip().lower()) if isinstance(value, str) else value if isinstance(value, bool) else None


def _whole(value: Any) -> bool:
    return not (isinstance(value, str) and "," in value) and float(value).is_integer()


def _looks_numeric(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        text = value.strip()
        if _PADDED.fullmatch(text):
            return False
        matches = (_NUMBER, _DECIMAL_COMMA, _THOUSANDS)
        return any(pattern.fullmatch(text) for pattern in matches)
    return isinstance(value, int | float) and math.isfinite(value)


def _comma(column: str, values: Sequence[Any], place: Place) -> str:
    """``decimal`` or ``thousands``: the one reading that all values with a comma allow."""
    with_comma = [(row, value.strip()) for row, value in enumerate(values) if isinstance(value, str) and "," in value]
    decimal_comma = all(_DECIMAL_COMMA.fullmatch(text) for _, text in with_comma)
    thousands = all(_THOUSANDS.fullmatch(text) and not text.lstrip("+-").startswith("0") for _, text in with_comma)
    if with_comma and decimal_comma and thousands:
        row, text = with_comma[0]
        raise CdkaError(
            f"{place(row)}: {text!r} in column {column!r} can be read in two ways, as {text.replace(',', '.')} and as "
            f"{text.replace(',', '')}. Write the numbers without commas, with a point for decimals."
        )
    return "decimal" if decimal_comma else "thousands"


def _number(value: Any, comma: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if not isinstance(value, str):
        return float(value)
    text = value.strip()
    if "," in text:
        if not (_DECIMAL_COMMA if comma == "decimal" else _THOUSANDS).fullmatch(text):
            return None
        text = text.replace(",", "." if comma == "decimal" else "")
    return float(text) if _NUMBER.fullmatch(text) else None


@dataclass(frozen=True)
class Records:
    """Rows of one file as its reader found them, before missing values are marked."""

    columns: Mapping[str, list[Any]]
    lines: list[int]
    notes: tuple[str, ...] = ()
    splits: Sequence[str] | None = None


def from_objects(
    objects: Iterable[Mapping[str, Any]],
    lines: Iterable[int],
    notes: tuple[str, ...] = (),
    splits: Sequence[str] | None = None,
) -> Records:
    """Columns made of one mapping a row; a key that a row lacks is None there."""
    listed = list(objects)
    names = dict.fromkeys(name for row in listed for name in row)
    return Records({name: [row.get(name) for row in listed] for name in names}, list(lines), notes, splits)
