"""``cdka help``."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

import cdka
from cdka.errors import unknown
from cdka.terminal import print_json

HELP = "Explain a command, or a name of the Python library with its example; without a name of either, list them."
EXAMPLE = "cdka help fine_tune"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a command, a name such as solve, fine_tune, Store, or: python (all of them)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def public_names() -> dict[str, Any]:
    """Every public name at the top of ``cdka`` that has a page, in alphabetical order."""
    return {name: getattr(cdka, name) for name in cdka.__all__ if not name.startswith("_")}


def reference(name: str) -> str:
    """The page of a public name: its signature, and its docstring with the example."""
    found = getattr(cdka, name)
    try:
        signature = str(inspect.signature(found))
    except (TypeError, ValueError):
        signature = ""
    return f"cdka.{name}{signature}\n\n{inspect.getdoc(found) or ''}"


def run(args: argparse.Namespace) -> None:
    name = args.name.removeprefix("cdka.")
    if name == "python":
        first = {key: (inspect.getdoc(value) or "").partition("\n")[0] for key, value in public_names().items()}
        width = max(map(len, first))
        text = "\n".join(f"{key:<{width}}  {line}" for key, line in first.items())
        print_json({"names": first}) if args.json else print(text)
        return
    if name not in cdka.__all__ or name.startswith("_"):
        raise unknown("name", name, cdka.__all__, next_step="List them with: cdka help python")
    print_json({"name": name, "text": reference(name)}) if args.json else print(reference(name))
