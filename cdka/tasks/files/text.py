"""Text without labels: .txt and .md files, a folder of them, or one column of a table. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError
from cdka.tasks.files.prepare import check_unchanged, data_path, split_settings
from cdka.tasks.options import check_known
from cdka.tasks.rows import SPLITS, TextRows

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec
    from cdka.tasks.info import TaskInfo

SUFFIXES = (".txt", ".md")
OPTIONS = ("data", "sha256", "text_column", "validation_fraction", "test_fraction", "split_seed")


def is_text(path: Path) -> bool:
    """True for a .txt or .md file, and for a folder that holds such files and no others of ours."""
    if path.is_dir():
        return any(file.suffix.lower() in SUFFIXES for file in path.rglob("*"))
    return path.suffix.lower() in SUFFIXES


def read(info: TaskInfo, spec: RunSpec) -> TextRows:
    """The texts in three splits, in their order: the beginning is learned, the end is judged.

    Raises CdkaError for options or files that cannot be used, and for fewer than three passages.
    """
    check_known(spec.task_options, OPTIONS, info.name)
    path = data_path(spec.task_options, info.name)
    check_unchanged(path, spec.task_options)
    passages = read_passages(path, spec.task_options)
    return TextRows(_in_order(passages, spec.task_options, path.name), (_note(passages, path.name),))


def read_passages(path: Path, options: Mapping[str, Any] | None = None) -> list[str]:
    """The paragraphs of text files, or the values of a table's text column. Raises CdkaError where there are none."""
    if path.exists() and not is_text(path):
        return _column(path, str((options or {}).get("text_column", "text")))
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    passages = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise CdkaError(
                f"a text file must exist: got {str(file)!r}. Give the path of a .txt or .md file."
            ) from None
        except UnicodeDecodeError:
            raise CdkaError(f"{file.name}: not UTF-8 text. Save the file as UTF-8.") from None
        passages += [part.strip() for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]
    if not passages:
        raise CdkaError(f"{path.name} holds no text. Give a file with text.")
    return passages


def _column(path: Path, column: str) -> list[str]:
    from cdka.tasks.files.table import read_table

    table = read_table(path)
    if column not in table.columns:
        known = ", ".join(str(name) for name in table.columns if not str(name).startswith("__"))
        raise CdkaError(f"the text column must be in {path.name}: got {column!r}; it has {known}. Use --text-column.")
    return [str(value) for value in table[column] if value is not None and str(value).strip()]


def _in_order(passages: Sequence[str], options: Mapping[str, Any], source: str) -> dict[str, list[str]]:
    shares = split_settings(options)
    counts = {name: max(1, round(shares[name] * len(passages))) for name in ("validation", "test")}
    train = len(passages) - sum(counts.values())
    if train < 1:
        raise CdkaError(
            f"{source} must hold at least three passages, with empty lines between them: got {len(passages)}."
        )
    ends = (train, train + counts["validation"], len(passages))
    return dict(zip(SPLITS, (list(passages[a:b]) for a, b in zip((0, *ends), ends, strict=False)), strict=True))


def _note(passages: Sequence[str], source: str) -> str:
    return f"{source} holds {len(passages):,} passages; the last ones are held out."
