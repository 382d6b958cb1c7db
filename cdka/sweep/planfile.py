"""Plan files: a sweep as TOML. Errors name the file, the line and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError, nearest
from cdka.models.catalogue import find_model
from cdka.solver.budget import Budget
from cdka.sweep.grid import AXES, SETTINGS, check_axis, parse_grid, typed
from cdka.sweep.match import BASELINES, EACH
from cdka.tasks.catalogue import find_task

KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "model": (str,),
    "task": (str,),
    "seeds": (int, list),
    "baselines": (list,),
    "budget": (int, str),
    "options": (int,),
    "tune_lr": (list,),
    "halving": (int,),
    "settings": (dict,),
    "grid": (dict, str),
    "arms": (list,),
}
EXAMPLE = """\
name = "does r1 hurt?"
model = "digits-vit"
task = "digits-flip"
seeds = 3
baselines = ["lora"]

[settings]
steps = 120
lr = 2e-3
alpha = 8

[grid]
r1 = [1, 2, 4, 8]
r2 = 4
r = 1
"""
_WORDS = {str: "text", int: "a whole number", list: "a list", dict: "a table"}
_MEANT = {"learning_rate": "lr", "learning_rates": "tune_lr", "batch": "batch_size"}
"""Words of other programs for what is spelt otherwise here."""
_ITEMS: dict[str, tuple[tuple[type, ...], str, str]] = {
    "seeds": ((int,), "whole numbers", "seeds = [0, 1, 2]"),
    "baselines": ((str,), "names", 'baselines = ["lora"]'),
    "tune_lr": ((int, float), "learning rates", "tune_lr = [1e-3, 3e-3]"),
    "arms": ((dict,), "tables", "[[arms]] with components = [2, 8, 1]"),
}


def read_plan(path: str | Path) -> dict[str, Any]:
    """The arguments of ``plan`` from a TOML file.

    Raises CdkaError with file, line and key for a file that is missing, is not TOML, or has unknown keys or types.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise CdkaError(f"the plan file cannot be read: {path} ({reason}). Give the path of a TOML file.") from None
    return parse_plan(text, str(path))


def parse_plan(text: str, name: str = "plan.toml") -> dict[str, Any]:
    """The arguments of ``plan`` from the text of a plan file called ``name``; raises CdkaError as ``read_plan``."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CdkaError(f"the plan file must be TOML: {name}: {error}.") from None
    lines = _Lines(text, name)
    for key, value in document.items():
        place = lines.place(key)
        if key not in KEYS:
            raise _unknown(key, KEYS, place)
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            kinds = " or ".join(_WORDS[kind] for kind in KEYS[key])
            raise CdkaError(f"{key} must be {kinds}: got {value!r} at {place}.")
        _check_items(key, value, place)
    for key in ("model", "task"):
        if key not in document:
            raise CdkaError(f'a plan file names a model and a task: {name} has no {key!r}. Add {key} = "...".')
    _check_values(document, lines)
    for key, value in document.get("settings", {}).items():
        _check(lines, typed, key, value, known=SETTINGS, table="settings")
    if isinstance(document.get("grid"), dict):
        for key, value in document["grid"].items():
            _check(lines, check_axis, key, value, known=AXES, table="grid")
    for number, arm in enumerate(document.get("arms", ())):
        for key, value in arm.items():
            _check(lines, typed, key, value, known=SETTINGS, table="arms", number=number)
    return document


def _check_items(key: str, value: Any, place: str) -> None:
    if key not in _ITEMS or not isinstance(value, list):
        return
    kinds, wanted, example = _ITEMS[key]
    for item in value:
        if not isinstance(item, kinds) or isinstance(item, bool):
            raise CdkaError(f"{key} must be a list of {wanted}: got {item!r} at {place}. Example: {example}.")


def _check_values(document: dict[str, Any], lines: _Lines) -> None:
    """Values of the first level whose meaning is known without planning."""
    checks: dict[str, Callable[[Any], Any]] = {
        "model": find_model,
        "task": find_task,
        "budget": lambda value: None if value == EACH else Budget.parse(value),
        "grid": lambda value: parse_grid(value) if isinstance(value, str) else None,
    }
    for key, check in checks.items():
        if key in document:
            _located(partial(check, document[key]), lines.place(key))
    for baseline in document.get("baselines", ()):
        if baseline.partition(":")[0] not in BASELINES:
            raise CdkaError(
                f"unknown baseline {baseline!r}: {lines.place('baselines')}. Known: {', '.join(BASELINES)}."
            )


def _check(lines: _Lines, rule: Callable, key: str, value: Any, *, known: tuple, table: str, number: int = 0) -> None:
    place = lines.place(key, table, number)
    if key not in known and key != "seed":
        raise _unknown(key, known, place)
    _located(lambda: rule(key, value), place)


def _located(check: Callable[[], Any], place: str) -> None:
    try:
        check()
    except CdkaError as refusal:
        raise CdkaError(f"{str(refusal).rstrip('.')}. At {place}.") from None


def _unknown(key: str, known: Any, place: str) -> CdkaError:
    close = [_MEANT[key]] if _MEANT.get(key) in known else nearest(key, known)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
    return CdkaError(f"unknown key in the plan file: {place}. {hint}")


class _Lines:
    """The line of each key of a TOML text, which the parser does not give."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._at: dict[tuple[str, int, str], int] = {}
        self._lines = text.splitlines()
        table = ""
        seen: dict[str, int] = {}
        for line, content in enumerate(self._lines, start=1):
            if header := re.match(r"\s*\[\[?\s*[\"']?([^\]\"']+?)[\"']?\s*\]", content):
                table = header[1]
                seen[table] = seen.get(table, -1) + 1
                self._note("", 0, table.partition(".")[0], line)
            elif key := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*(\.\s*[\"']?([\w-]+)[\"']?\s*)?=", content):
                self._note(table, seen.get(table, 0), key[1], line)
                if key[3]:
                    self._note(key[1], 0, key[3], line)

    def _note(self, table: str, number: int, key: str, line: int) -> None:
        self._at.setdefault((table, number, key), line)

    def place(self, key: str, table: str = "", number: int = 0) -> str:
        """``FILE, line N, key 'K'``; a key inside an inline table is looked for from the table's own line on."""
        line = self._at.get((table, number, key))
        if line is None:
            start = self._at.get(("", 0, table or key), 1)
            word = re.compile(rf"\b{re.escape(key)}\b")
            hits = (i for i in range(start, len(self._lines) + 1) if word.search(self._lines[i - 1]))
            line = next(hits, start)
        return f"{self._name}, line {line}, key {key!r}"
