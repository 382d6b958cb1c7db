"""A plan in the making: the arguments of ``cdka.sweep.plan``, as a plan file, as a command, as runs. Free of Streamlit.

The arguments are those of a TOML plan file, so that what is built here, uploaded or typed goes one way.
"""

from __future__ import annotations

import itertools
import json
import math
import shlex
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.sweep.grid import check_grid, parse_grid
from cdka.sweep.launch import check_runs
from cdka.sweep.plan import MANY_ARMS_SEEDS, MANY_RUNS, Plan, plan
from cdka.sweep.planfile import parse_plan

Arguments = Mapping[str, Any]
FILE = "plan.toml"
MAX_RUNS = 100_000
"""More than this is planned by the command line alone: the page would not answer."""
MAX_BYTES = 64_000
"""A plan file is a page of text; anything larger is another file."""


def planned(arguments: Arguments, *, allow_many: bool = False) -> Plan:
    """The runs of a plan, checked against this machine. Raises CdkaError as the library says it."""
    count = most_runs(arguments)
    if count > MAX_RUNS:
        raise CdkaError(
            f"the Studio plans up to {MAX_RUNS:,} runs at once: got {count:,}. Take fewer values, or use cdka sweep."
        )
    return _planned(json.dumps(arguments, default=str), allow_many)


@lru_cache(maxsize=16)
def _planned(text: str, allow_many: bool) -> Plan:
    given = json.loads(text)
    made = plan(given.pop("model"), given.pop("task"), allow_many=allow_many, **given)
    check_runs(made.runs, reach=False)
    return made


def most_runs(arguments: Arguments) -> int:
    """Upper bound of the number of runs that the arguments make, counted without making any."""
    grid = arguments.get("grid")
    axes = {} if grid is None else parse_grid(grid) if isinstance(grid, str) else check_grid(grid)
    cells = math.prod(len(values) for values in axes.values()) if axes else 0
    seeds = arguments.get("seeds", MANY_ARMS_SEEDS)
    each = (seeds if isinstance(seeds, int) else len(seeds)) * max(1, len(arguments.get("tune_lr", ())))
    arms = cells + arguments.get("options", 0) + len(arguments.get("arms", ())) + len(arguments.get("baselines", ()))
    return arms * max(1, each)


def needs_consent(arguments: Arguments) -> int | None:
    """The number of runs, where it is more than anybody starts by accident; else None."""
    count = most_runs(arguments)
    return count if count > MANY_RUNS else None


def grid_text(grid: str | Mapping[str, Any]) -> str:
    """A grid as the command line takes it: ``r1=1,2,4;r2=4``."""
    if isinstance(grid, str):
        return grid
    listed = {axis: values if isinstance(values, list | tuple) else [values] for axis, values in grid.items()}
    return ";".join(f"{axis}={_flag(values)}" for axis, values in listed.items())


def command(arguments: Arguments) -> str:
    """The command line that starts the same runs; a list of arms has no flags and goes by its plan file."""
    last = ["--yes", "--wait"] if needs_consent(arguments) else ["--wait"]
    if "arms" in arguments or any(isinstance(value, dict | list) for value in arguments.get("settings", {}).values()):
        return shlex.join(["cdka", "sweep", FILE, *last])
    lines = [["cdka", "sweep", "--model", arguments["model"], "--task", arguments["task"]]]
    if arguments.get("grid"):
        lines.append(["--grid", grid_text(arguments["grid"])])
    seeds = arguments.get("seeds", MANY_ARMS_SEEDS)
    lines.append(["--seeds", _flag(seeds)])
    for key in ("baselines", "tune_lr"):
        if arguments.get(key):
            lines[-1] += [f"--{key.replace('_', '-')}", _flag(arguments[key])]
    lines += [
        [f"--{key}", _flag(arguments[key])] for key in ("budget", "options", "halving", "name") if arguments.get(key)
    ]
    settings = [(f"--{key.replace('_', '-')}", _flag(value)) for key, value in arguments.get("settings", {}).items()]
    lines.append([*itertools.chain(*settings), *last])
    return " \\\n  ".join(map(shlex.join, lines))


def _flag(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_flag, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def toml(arguments: Arguments) -> str:
    """The plan file of these arguments; ``parse_plan`` reads it back."""
    plain = {key: value for key, value in arguments.items() if not isinstance(value, dict) and key != "arms"}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for key in ("settings", "grid"):
        if isinstance(arguments.get(key), dict) and arguments[key]:
            lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in arguments[key].items())]
    for arm in arguments.get("arms", ()):
        lines += ["", "[[arms]]", *(f"{name} = {_toml(value)}" for name, value in arm.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    return repr(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)


def text_of(content: bytes, name: str) -> str:
    """The text of a plan file. Raises CdkaError for one that is too large or no text."""
    name = Path(name).name or FILE
    if len(content) > MAX_BYTES:
        raise CdkaError(
            f"a plan file has at most {MAX_BYTES:,} bytes: got {len(content):,} in {name!r}. Give the plan alone."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise CdkaError(f"the plan file cannot be read: {name} (it is not UTF-8 text). Give a TOML file.") from None


def read(content: bytes, name: str = FILE) -> dict[str, Any]:
    """The arguments that a plan file holds. Raises CdkaError in the library's words, with file, line and key."""
    return parse_plan(text_of(content, name), Path(name).name or FILE)
