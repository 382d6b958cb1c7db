"""What this learner has read and predicted, in one small file in the home of all state. Nothing leaves the machine."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cdka.paths import home_dir

FILE_NAME = "learn.json"


@dataclass(frozen=True)
class Record:
    """One chapter: the pages seen, the best score so far (None: not tried), how many predictions were made."""

    pages: frozenset[int] = frozenset()
    best: int | None = None
    tries: int = 0


@dataclass(frozen=True)
class Progress:
    """All chapters by number."""

    chapters: dict[int, Record] = field(default_factory=dict)

    def of(self, chapter: int) -> Record:
        """The record of one chapter, empty where nothing was done."""
        return self.chapters.get(chapter, Record())

    def seen(self, chapter: int, page: int) -> Progress:
        """With one more page seen."""
        now = self.of(chapter)
        return self._with(chapter, replace(now, pages=now.pages | {page}))

    def scored(self, chapter: int, points: int) -> Progress:
        """With one more prediction made."""
        now = self.of(chapter)
        return self._with(chapter, replace(now, best=max(points, now.best or 0), tries=now.tries + 1))

    def _with(self, chapter: int, record: Record) -> Progress:
        return Progress({**self.chapters, chapter: record})


def path() -> Path:
    """Where progress is kept."""
    return home_dir() / FILE_NAME


def load() -> Progress:
    """The progress kept so far; none where the file is absent or is not ours to read."""
    try:
        document = json.loads(path().read_text(encoding="utf-8"))
        return Progress(
            {
                int(number): Record(frozenset(map(int, entry["pages"])), entry["best"], int(entry["tries"]))
                for number, entry in document["chapters"].items()
            }
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Progress()  # a damaged file costs a few ticks in the margin, never the lesson


def save(progress: Progress) -> None:
    """Keep the progress: written beside and renamed, so that a crash leaves the old file.

    A full disk costs a few ticks in the margin, never the lesson.
    """
    document = {
        "chapters": {
            str(number): {"pages": sorted(record.pages), "best": record.best, "tries": record.tries}
            for number, record in sorted(progress.chapters.items())
        }
    }
    target = path()
    beside = target.with_name(f"{FILE_NAME}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(document), encoding="utf-8")
        beside.replace(target)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def forget() -> None:
    """Begin again."""
    path().unlink(missing_ok=True)
