"""Progress of the learners on this server: predictions and points, and the name by which a browser is known.

Nothing leaves the machine. Who gives no name is the learner ``""``; a class on one server has a name each.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import streamlit as st

from cdka.paths import home_dir

FILE_NAME = "learn.json"
MAX_NAME = 24
"""Characters of a learner's name."""
MAX_KEPT = 200
"""Predictions kept for each learner, the newest ones."""
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Record:
    """One chapter: the pages seen, the best score so far (None: not tried), the number of predictions made."""

    pages: frozenset[int] = frozenset()
    best: int | None = None
    tries: int = 0


@dataclass(frozen=True)
class Prediction:
    """The answers given to one question, in order; ``points`` once it is scored; ``answer`` as it was then."""

    answers: tuple[float | str, ...]
    points: int | None = None
    answer: float | str | None = None


Key = tuple[int, int, str]
"""Chapter, seed, name of the question."""


@dataclass(frozen=True)
class Progress:
    """One learner: chapters by number, predictions by key."""

    chapters: dict[int, Record] = field(default_factory=dict)
    predictions: dict[Key, Prediction] = field(default_factory=dict)

    def of(self, chapter: int) -> Record:
        """The record of one chapter, empty where nothing was done."""
        return self.chapters.get(chapter, Record())

    def seen(self, chapter: int, page: int) -> Progress:
        """With one more page seen."""
        now = self.of(chapter)
        return self._with(chapter, replace(now, pages=now.pages | {page}))

    def answered(self, key: Key, value: float | str) -> Progress:
        """With one more answer to a question."""
        kept = self.predictions.get(key, Prediction(()))
        return self._predicted(key, replace(kept, answers=(*kept.answers, value)))

    def scored(self, key: Key, points: int, answer: float | str) -> Progress:
        """With the score of a question, which counts once."""
        kept = self.predictions.get(key, Prediction(()))
        if kept.points is not None:
            return self
        now = self.of(key[0])
        record = replace(now, best=max(points, now.best or 0), tries=now.tries + 1)
        return self._with(key[0], record)._predicted(key, replace(kept, points=points, answer=answer))

    def _with(self, chapter: int, record: Record) -> Progress:
        return replace(self, chapters={**self.chapters, chapter: record})

    def _predicted(self, key: Key, prediction: Prediction) -> Progress:
        others = {other: kept for other, kept in self.predictions.items() if other != key}
        newest = dict(list({**others, key: prediction}.items())[-MAX_KEPT:])
        return replace(self, predictions=newest)


def path() -> Path:
    """The file that keeps progress."""
    return home_dir() / FILE_NAME


def load(learner: str = "") -> Progress:
    """The progress of a learner; none where the file is absent or is not ours to read."""
    return everybody().get(learner, Progress())


def everybody() -> dict[str, Progress]:
    """The progress of all learners by name."""
    try:
        document = json.loads(path().read_text(encoding="utf-8"))
        learners = document.get("learners", {"": document})  # 0.1 kept one learner
        return {name: _read(entry) for name, entry in learners.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # a damaged file costs a few ticks in the margin, never the lesson


def update(change: Callable[[Progress], Progress], learner: str = "") -> None:
    """Change the progress of a learner: read, changed and written beside and renamed, so that a crash leaves the old
    file, and two learners at once do not undo each other.

    A full disk costs a few ticks in the margin, never the lesson.
    """
    with _LOCK:
        known = everybody()
        known[learner] = change(known.get(learner, Progress()))
        _write(known)


def _write(known: dict[str, Progress]) -> None:
    document = {"learners": {name: _written(kept) for name, kept in sorted(known.items())}}
    target = path()
    beside = target.with_name(f"{FILE_NAME}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(document), encoding="utf-8")
        beside.replace(target)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def forget(learner: str = "") -> None:
    """Begin again: this learner's progress is deleted."""
    with _LOCK:
        known = everybody()
        known.pop(learner, None)
        if known:
            _write(known)
        else:
            path().unlink(missing_ok=True)


def _read(entry: dict[str, Any]) -> Progress:
    chapters = {
        int(number): Record(frozenset(map(int, kept["pages"])), kept["best"], int(kept["tries"]))
        for number, kept in entry["chapters"].items()
    }
    predictions = {
        (int(kept["chapter"]), int(kept["seed"]), str(kept["name"])): Prediction(
            tuple(kept["said"]), kept["points"], kept["answer"]
        )
        for kept in entry.get("predictions", [])
    }
    return Progress(chapters, predictions)


def _written(kept: Progress) -> dict[str, Any]:
    return {
        "chapters": {
            str(number): {"pages": sorted(record.pages), "best": record.best, "tries": record.tries}
            for number, record in sorted(kept.chapters.items())
        },
        "predictions": [
            {
                "chapter": key[0],
                "seed": key[1],
                "name": key[2],
                "said": list(one.answers),
                "points": one.points,
                "answer": one.answer,
            }
            for key, one in kept.predictions.items()
        ],
    }


LEARNER = "learner"


def learner_name() -> str:
    """The name in the address, shortened to MAX_NAME characters; empty where there is none."""
    return " ".join(st.query_params.get(LEARNER, "").split())[:MAX_NAME]


def name_field() -> None:
    """A text field for the name; it stays in the address, so that a bookmark or a reload keeps it."""

    def keep() -> None:
        name = " ".join(st.session_state["learn_name"].split())[:MAX_NAME]
        if name:
            st.query_params[LEARNER] = name
        else:
            st.query_params.pop(LEARNER, None)

    st.session_state["learn_name"] = learner_name()
    st.text_input(
        "Your name in this class",
        key="learn_name",
        max_chars=MAX_NAME,
        on_change=keep,
        width=220,
        placeholder="for the scoreboard",
        help="Kept on the server of this class, with your predictions and points.",
    )
