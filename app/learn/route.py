"""A cut of the course for one lesson: the pages of the 30-minute route, in order."""

from __future__ import annotations

from app.learn.chapters import CHAPTERS

PARAMETER, VALUE = "route", "30"
MINUTES = 30
STOPS: tuple[tuple[int, str], ...] = (
    (1, "why"),
    (1, "product"),
    (1, "rank"),
    (1, "fold"),
    (2, "lora"),
    (2, "shapes"),
    (2, "budget"),
    (4, "question"),
    (4, "first"),
    (4, "order"),
    (5, "terms"),
    (6, "race"),
    (7, "ceiling"),
    (7, "table"),
)
"""Chapter and page of every stop."""


def pages() -> list[tuple[int, int]]:
    """The stops as (chapter, page number)."""
    found = []
    for number, id in STOPS:
        ids = [page.id for page in CHAPTERS[number - 1].pages]
        found.append((number, ids.index(id) + 1))
    return found


def place(chapter: int, page: int) -> int:
    """The index of the stop at a page, or of the last one before it; -1 before the first."""
    return max((index for index, stop in enumerate(pages()) if stop <= (chapter, page)), default=-1)
