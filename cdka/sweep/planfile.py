"""Plan files: a sweep as TOML. Errors name the file, the line and the key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError, nearest

KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,), "model": (str,), "task": (str,), "seeds": (int, list), "baselines": (list,), "budget": (int, str),
    "tune_lr": (list,), "settings": (dict,), "grid": (dict, str), "arms": (list,),
}  # fmt: skip
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
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CdkaError(f"the plan file must be TOML: {path}: {error}.") from None
    for key, value in document.items():
        place = f"{path}, line {_line_of(key, text)}, key {key!r}"
        if key not in KEYS:
            close = nearest(key, KEYS)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(KEYS)}."
            raise CdkaError(f"unknown key in the plan file: {place}. {hint}")
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            kinds = " or ".join(_WORDS[kind] for kind in KEYS[key])
            raise CdkaError(f"{key} must be {kinds}: got {value!r} at {place}.")
    for key in ("model", "task"):
        if key not in document:
            raise CdkaError(f'a plan file names a model and a task: {path} has no {key!r}. Add {key} = "...".')
    return document


_WORDS = {str: "text", int: "a whole number", list: "a list", dict: "a table"}


def _line_of(key: str, text: str) -> int:
    pattern = re.compile(rf"^\s*(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*(=|\]|\.)")
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.match(line):
            return number
    return 1
