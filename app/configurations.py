"""Configurations as people type them: ``2,8,4`` (components), ``lora 8``, ``lokr 4``, ``dora 8`` or ``full``.

An entry is a run's label without the word cdka.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.spec import METHODS

EXAMPLE = "Examples: 2,8,4 or lora 8 or full."
_RANKED = tuple(method for method in METHODS if method not in ("cdka", "full"))


def run_settings(entry: str) -> dict[str, Any]:
    """The method with its components or rank that an entry stands for. Raises CdkaError for anything else."""
    words = entry.lower().removeprefix("cdka").split()
    if words == ["full"]:
        return {"method": "full"}
    if len(words) == 2 and words[0] in _RANKED:
        if not words[1].isdecimal() or int(words[1]) < 1:
            raise CdkaError(f"the rank of {words[0]} must be a positive integer: got {words[1]!r}. {EXAMPLE}")
        return {"method": words[0], "rank": int(words[1])}
    if "," in entry:
        return {"method": "cdka", "components": Components.parse("".join(words))}
    raise CdkaError(f"an entry names components or a baseline: got {entry!r}. {EXAMPLE}")


def label(entry: str) -> str:
    """The label of the run that an entry stands for: ``cdka 2,8,4`` for ``2,8,4``; other text is left as typed."""
    try:
        found = run_settings(entry)
    except CdkaError:
        return entry
    if "components" in found:
        return f"cdka {found['components']}"
    return found["method"] + (f" {found['rank']}" if "rank" in found else "")


def check(entries: Iterable[str]) -> None:
    """Raises CdkaError for the first entry that stands for nothing."""
    for entry in entries:
        run_settings(entry)


def split_valid(entries: Iterable[str]) -> tuple[list[str], list[str]]:
    """The entries that stand for a configuration, and a sentence for each of the others."""
    valid, refusals = [], []
    for entry in entries:
        try:
            run_settings(entry)
        except CdkaError as refusal:
            refusals.append(str(refusal))
        else:
            valid.append(entry)
    return valid, refusals


def cdka_components(entries: Iterable[str]) -> list[Components]:
    """The CDKA configurations among entries."""
    found = (run_settings(entry) for entry in split_valid(entries)[0])
    return [one["components"] for one in found if "components" in one]
