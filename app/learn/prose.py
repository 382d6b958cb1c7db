"""A chapter's text: one Markdown file beside its code, which a teacher can read and mend without Python.

The file opens with the title and the chapter's idea. Each page is a ``##`` section with an id in braces; the exercise
is the section ``predict``, its parts are ``###`` sections; the last words are the section ``finish``. A paragraph that
opens with ``Try:`` stands in the Studio alone, one that opens with ``Code:`` in the notebook alone, and a quoted
paragraph (``>``) is the page's one idea, which the presentation and the printed sheet show. ``{{name}}`` is a place for
a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError, unknown

FILE_NAME = "text.md"
TRY, CODE, IDEA = "Try:", "Code:", ">"

_SECTION = re.compile(r"^## (.+?) \{#([\w-]+)\}$", re.M)
_PART = re.compile(r"^### (.+)$", re.M)
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Section:
    """One page of text; ``parts`` are its ``###`` sections by name."""

    id: str
    title: str
    text: str
    parts: dict[str, str]


@dataclass(frozen=True)
class Prose:
    """The text of one chapter; ``sections`` by id, in order."""

    title: str
    idea: str
    sections: dict[str, Section]

    def section(self, id: str) -> Section:
        """One section. Raises CdkaError where the file has none of that id."""
        if id not in self.sections:
            raise unknown("section", id, self.sections, where=f"of '{self.title}'")
        return self.sections[id]

    def part(self, name: str, **values: Any) -> str:
        """One part of the exercise, filled with ``values``."""
        parts = self.section("predict").parts
        if name not in parts:
            raise unknown("part", name, parts, where=f"of the exercise of '{self.title}'")
        return fill(parts[name], **values)

    @property
    def finish(self) -> str:
        """The last words of the chapter."""
        return self.section("finish").text


def read(module_file: str) -> Prose:
    """The text beside a module: ``read(__file__)``. Raises CdkaError where the file lacks a title or sections."""
    path = Path(module_file).with_name(FILE_NAME)
    return parse(path.read_text(encoding="utf-8"), str(path))


def parse(document: str, where: str = "the text") -> Prose:
    """A document as Prose. Raises CdkaError where it lacks a title or sections."""
    head, *rest = _SECTION.split(document)
    title, _, idea = head.strip().partition("\n")
    if not title.startswith("# ") or not rest:
        raise CdkaError(f"{where} must open with '# Title' and have sections '## Title {{#id}}': got {title[:80]!r}.")
    sections = {}
    for name, id, body in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        text, *parts = _PART.split(body)
        named = dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
        sections[id] = Section(id, name, text.strip(), named)
    return Prose(title[2:], " ".join(idea.split()), sections)


def fill(text: str, **values: Any) -> str:
    """``text`` with its places filled in. Raises CdkaError for a place without a value."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise unknown("value", match[1], values, where="of the text")
        return str(values[match[1]])

    return _PLACE.sub(value, text)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text."""
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part]


def in_studio(text: str) -> list[str]:
    """The paragraphs that the Studio shows: all but those for the notebook."""
    return [part for part in paragraphs(text) if not part.startswith(CODE)]


def in_notebook(text: str) -> str:
    """The text that the notebook shows: without what can only be done on the screen."""
    kept = [part for part in paragraphs(text) if not part.startswith(TRY)]
    return "\n\n".join(
        f"**In the cell below:** {_rest(part, CODE)}" if part.startswith(CODE) else part for part in kept
    )


def idea_of(text: str) -> str:
    """The page's one idea; empty where the text has none."""
    return next((_rest(part, IDEA) for part in paragraphs(text) if part.startswith(IDEA)), "")


def try_of(text: str) -> str:
    """The invitation of the page to act on the screen; empty where there is nothing."""
    return next((_rest(part, TRY) for part in paragraphs(text) if part.startswith(TRY)), "")


def _rest(part: str, mark: str) -> str:
    return "\n".join(line.removeprefix(mark).lstrip() for line in part.splitlines())
