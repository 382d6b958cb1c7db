"""Read CSV and TSV: the separator, quotes that are text, unnamed columns, and what spreadsheets leave behind."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.tasks.files.values import Records

MAX_FIELD = 10_000_000
_SEPARATORS = ",;\t|"
_SEP_LINE = re.compile(r"""["']?sep ?= ?(.)["']?\r?\n""", re.IGNORECASE)
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE = 200


@dataclass(frozen=True)
class _Reading:
    """Records of a text and the lines (from 1) that each begins and ends in."""

    rows: list[list[str]]
    first: list[int]
    last: list[int]


def read_separated(name: str, text: str, *, tabs: bool) -> Records:
    """The columns of a CSV text, or with ``tabs`` of a TSV text. Its first line names the columns.

    A record ends where its line ends (LF, CRLF or CR), other separators of Unicode are text. Quotes are read as CSV
    writes them; where that fails or would swallow whole lines of a TSV file, they are text. Raises CdkaError with the
    line where neither reading holds, or both do and differ.
    """
    csv.field_size_limit(MAX_FIELD)
    skipped = 0
    if found := _SEP_LINE.match(text):
        text, skipped, separator = text[found.end() :], 1, found[1]
    else:
        separator = "\t" if tabs else _separator(text)
    reading, notes = _read(name, text, separator, skipped)
    header, rows, lines = _without_blank_lines(reading, skipped, name)
    header, rows, more = _equal_width(name, header, rows, lines, separator)
    names, kept, dropped = _column_names(name, header, rows, lines[0] if lines else 1)
    columns = {names[i]: [row[i] for row in rows] for i in kept}
    return Records(columns, lines[1:], (*notes, *more, *dropped))


def _records(text: str, separator: str, *, quoted: bool, spaced: bool = False) -> _Reading:
    """Raises csv.Error where quotes are not as CSV writes them; ``spaced`` lets spaces stand before them."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, quoting=quoting, skipinitialspace=spaced
    )
    rows, first, last, before = [], [], [], 0
    for row in reader:
        rows.append(row)
        first.append(before + 1)
        last.append(reader.line_num)
        before = reader.line_num
    return _Reading(rows, first, last)


def _separator(text: str) -> str:
    """The one of comma, semicolon, tab and bar that splits the first records into the most equal fields.

    Of two that do so alike, the one that no space follows: commas of prose have one.
    """
    sample = text[: 1 << 18]
    if len(sample) < len(text):
        sample = sample[: sample.rfind("\n") + 1]
    best, best_score = ",", (0, 0, 0)
    for separator in _SEPARATORS:
        try:
            rows = _records(sample, separator, quoted=True).rows
        except csv.Error:
            rows = _records(sample, separator, quoted=False).rows
        rows = [row for row in rows if row][:_SAMPLE]
        width = len(rows[0]) if rows else 1
        alike = sum(len(row) == width for row in rows[1:])
        spaced = sum(value.startswith(" ") for row in rows for value in row[1:])
        score = (alike, width, -spaced) if width > 1 else (0, 0, 0)
        if score > best_score:
            best, best_score = separator, score
    return best


def _read(name: str, text: str, separator: str, skipped: int) -> tuple[_Reading, tuple[str, ...]]:
    if '"' not in text:
        return _records(text, separator, quoted=False), ()
    try:
        quoted = _records(text, separator, quoted=True)
        problem = None
    except csv.Error as error:
        quoted, problem = None, str(error)
    if quoted is None or _space_before_quotes(quoted.rows[1:]):
        with suppress(csv.Error):
            spaced = _records(text, separator, quoted=True, spaced=True)
            if len({*map(len, filter(None, spaced.rows))}) == 1 and not _space_before_quotes(spaced.rows, any_row=True):
                return spaced, (f"{name}: spaces between a separator and a quote are left out.",)
    plain = _records(text, separator, quoted=False)
    width = len(plain.rows[0]) if plain.rows else 0
    if quoted is None:
        line = _broken_line(text, separator) + skipped
        if width > 1 and all(len(row) == width for row in plain.rows if row):
            return plain, (
                f"quotes in {name} are part of the text: line {line} has one that is not closed in its field.",
            )
        raise CdkaError(f"{name}, line {line}: {problem}. A quote inside a quoted text is written twice.")
    swallowed = _swallowed(quoted, plain, width, tabs=separator == "\t")
    if swallowed is None:
        return quoted, ()
    begin, end = swallowed
    if separator == "\t" and all(len(row) == width for row in plain.rows if row):
        return plain, (f"quotes in {name} are part of the text: line {begin + skipped} opens one and closes none.",)
    raise CdkaError(
        f"{name}, line {begin + skipped}: a quote opens here and the next one closes in line {end + skipped}, so this "
        f"is one text of {end - begin + 1} lines or as many rows whose quotes are text. Write a quote inside a text "
        "twice, within quotes; or save the file as JSON Lines."
    )


def _space_before_quotes(rows: Sequence[Sequence[str]], *, any_row: bool = False) -> bool:
    """True where quotes follow spaces in some column of every row (of any row), so that they were taken for text."""
    wrapped = [[re.match(r' *".*"?', value) is not None for value in row] for row in rows if row]
    if any_row:
        return any(map(any, wrapped))
    return bool(wrapped) and any(map(all, zip(*wrapped, strict=False)))


def _swallowed(quoted: _Reading, plain: _Reading, width: int, *, tabs: bool) -> tuple[int, int] | None:
    """(first line, last line) of the first record whose lines are each a whole row by themselves; None without one.

    A text of several lines seldom looks so, rows glued together by a stray quote always do. Two lines of prose with a
    comma in each do not count, unless a value of theirs is met in other rows (a label).
    """
    if width < 2:
        return None
    by_line = dict(zip(plain.first, plain.rows, strict=True))
    others: list[set[str]] = [set() for _ in range(width)]
    spans = []
    for row, begin, end in zip(quoted.rows, quoted.first, quoted.last, strict=True):
        if begin == end:
            for i, value in enumerate(row[:width]):
                others[i].add(value.strip())
        else:
            spans.append((begin, end))
    for begin, end in spans:
        rows = [by_line.get(line, []) for line in range(begin, end + 1)]
        if all(len(row) == width for row in rows) and (
            tabs or len(rows) > 2 or any(all(row[i].strip() in others[i] for row in rows) for i in range(width))
        ):
            return begin, end
    return None


def _broken_line(text: str, separator: str) -> int:
    """The line in which a quoted field begins that the strict reader cannot finish."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for _ in reader:
            line = reader.line_num + 1
    except csv.Error:
        pass
    return line


def _without_blank_lines(reading: _Reading, skipped: int, name: str) -> tuple[list[str], list[list[str]], list[int]]:
    """(column names, rows, lines of both): lines that hold nothing, or separators alone, are no rows."""
    found = [
        (row, line + skipped)
        for row, line in zip(reading.rows, reading.first, strict=True)
        if any(value.strip() for value in row)
    ]
    if not found:
        raise CdkaError(f"{name}, line 1: no column names. The first line names the columns.")
    return found[0][0], [row for row, _ in found[1:]], [line for _, line in found]


def _equal_width(
    name: str, header: list[str], rows: list[list[str]], lines: Sequence[int], separator: str
) -> tuple[list[str], list[list[str]], tuple[str, ...]]:
    """Header and rows of one width. Raises CdkaError, with the line, for a row of another."""
    width = len(header)
    if rows and all(len(row) == width + 1 for row in rows):
        if not any(row[-1].strip() for row in rows):
            return header, [row[:-1] for row in rows], ()  # each line ends in a separator
        if len({row[0] for row in rows}) == len(rows) and width > 1:  # R writes the row names without a heading
            return ["", *header], rows, ()
    for row, line in zip(rows, lines[1:], strict=True):
        if len(row) > width and not any(value.strip() for value in row[width:]):
            del row[width:]
        if len(row) != width:
            sign = _NAMES.get(separator, "separator")
            above = " Or does something stand above the columns' names? Remove it." if width == 1 else ""
            raise CdkaError(
                f"{name}, line {line}: {plural(len(row), 'field')} where the first line names {width}. Put quotes "
                f"around text that contains the {sign}.{above}"
            )
    return header, rows, ()


def _column_names(
    name: str, header: list[str], rows: list[list[str]], line: int
) -> tuple[list[str], list[int], tuple[str, ...]]:
    """(a name for every column, the columns kept, notes): an empty column without a name is left out."""
    names = [column.strip() for column in header]
    for column in names:
        if column and names.count(column) > 1:
            raise CdkaError(f"{name}, line {line}: two columns are called {column!r}. Rename one.")
    kept, notes, empty = [], [], 0
    for i, column in enumerate(names):
        if column:
            kept.append(i)
        elif not any(row[i].strip() for row in rows):
            empty += 1
        else:
            names[i] = f"column {i + 1}"
            while names.count(names[i]) > 1:
                names[i] += "'"
            kept.append(i)
            notes.append(f"{name}: column {i + 1} has no name and is called {names[i]!r}.")
    if empty:
        notes.append(f"{name}: {plural(empty, 'empty column')} without a name left out.")
    return names, kept, tuple(notes)
