"""Text without labels: .txt and .md files, a folder of them, or one column of a table. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError
from cdka.tasks.files.columns import TEXT, guess
from cdka.tasks.files.digest import check_unchanged, data_files
from cdka.tasks.files.folder import holds_tables
from cdka.tasks.files.prepare import data_path, load_table, split_settings
from cdka.tasks.files.table import text_of
from cdka.tasks.files.values import texts_of
from cdka.tasks.options import check_known
from cdka.tasks.rows import SPLITS, TextRows

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec
    from cdka.tasks.info import TaskInfo

SUFFIXES = (".txt", ".md")
OPTIONS = ("data", "sha256", "text_column", "validation_fraction", "test_fraction", "split_seed")


def is_text(path: Path) -> bool:
    """True for a .txt or .md file, and for a folder that holds such files and no tables."""
    if path.is_dir():
        return not holds_tables(path) and any(file.suffix.lower() in SUFFIXES for file in data_files(path))
    return path.suffix.lower() in SUFFIXES


def read(info: TaskInfo, spec: RunSpec) -> TextRows:
    """The texts that ``spec.task_options`` name, as ``read_text_rows`` splits them."""
    check_known(spec.task_options, OPTIONS, info.name)
    return read_text_rows(spec.task_options)


def read_text_rows(options: Mapping[str, Any]) -> TextRows:
    """The texts in three splits, in their order: the beginning is learned, the end is judged.

    Raises CdkaError for options or files that cannot be used, and for fewer than three passages.
    """
    path = data_path(options, "local-text")
    check_unchanged(path, options)
    passages = read_passages(path, options)
    return TextRows(_in_order(passages, options, path.name), (_note(passages, path.name),))


def read_passages(path: Path, options: Mapping[str, Any] | None = None) -> list[str]:
    """The paragraphs of text files, or the values of a table's text column. Raises CdkaError where there are none."""
    if path.exists() and not is_text(path):
        return _column(path, options or {})
    files = [file for file in data_files(path) if file.suffix.lower() in SUFFIXES] if path.is_dir() else [path]
    passages = []
    for file in files:
        if not file.is_file():
            raise CdkaError(f"a text file must exist: got {str(file)!r}. Give the path of a .txt or .md file.")
        text = text_of(file, file.name)
        passages += [part.strip() for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]
    if not passages:
        raise CdkaError(f"{path.name} holds no text. Give a file with text.")
    return passages


def _column(path: Path, options: Mapping[str, Any]) -> list[str]:
    table = load_table(path)
    column = str(options.get(TEXT.option) or guess(table, TEXT) or TEXT.noun)
    if column not in table.columns:
        known = ", ".join(table.names)
        raise CdkaError(f"the text column must be in {path.name}: got {column!r}; it has {known}. Use --text-column.")
    return [text for text in texts_of(column, table.columns[column], table.place) if text is not None]


def _in_order(passages: Sequence[str], options: Mapping[str, Any], source: str) -> dict[str, list[str]]:
    shares = split_settings(options)
    counts = {name: max(1, round(shares[name] * len(passages))) for name in ("validation", "test")}
    train = len(passages) - sum(counts.values())
    if train < 1:
        raise CdkaError(
            f"{source} must hold at least three passages, with empty lines between them: got {len(passages)}. If it "
            "is a table, let its name end in .csv or .tsv."
        )
    ends = (train, train + counts["validation"], len(passages))
    return dict(zip(SPLITS, (list(passages[a:b]) for a, b in zip((0, *ends), ends, strict=False)), strict=True))


def _note(passages: Sequence[str], source: str) -> str:
    return f"{source} holds {len(passages):,} passages; the last ones are held out."
