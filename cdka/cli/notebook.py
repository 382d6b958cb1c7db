"""``cdka notebook``."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from cdka.errors import CdkaError, unknown
from cdka.paths import assets_dir, expanded
from cdka.terminal import print_json, print_message, print_table

HELP = "Copy one of the notebooks that ship with cdka, and open it where Jupyter is installed."
EXAMPLE = "cdka notebook choose"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one of the list, which is shown where it is left out")
    parser.add_argument("--to", metavar="FOLDER", default=".", help="where the copy goes (default: this folder)")
    parser.add_argument("--no-open", action="store_true", help="only write the copy")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def notebooks() -> dict[str, Path]:
    """The shipped notebooks by name."""
    return {path.stem: path for path in sorted((assets_dir() / "notebooks").glob("*.ipynb"))}


def run(args: argparse.Namespace) -> None:
    known = notebooks()
    if args.name is None:
        titles = {name: _title(path) for name, path in known.items()}
        if args.json:
            return print_json({"notebooks": [{"name": name, "title": title} for name, title in titles.items()]})
        return print_table(["notebook", "what it does"], [[name, title] for name, title in titles.items()])
    if args.name not in known:
        raise unknown("notebook", args.name, known, next_step="List them with: cdka notebook")
    target = expanded(args.to) / known[args.name].name
    if target.exists():
        raise CdkaError(f"a copy must not replace a file: {str(target)!r} exists. Use --to FOLDER, or rename it.")
    try:
        shutil.copyfile(known[args.name], target)
    except OSError as error:
        raise CdkaError(f"{str(target)!r} could not be written ({error.strerror}). Use --to FOLDER.") from None
    jupyter = None if args.no_open else _jupyter()
    if args.json:
        return print_json({"path": str(target), "opened": jupyter is not None})
    print(target)
    if jupyter is not None:
        subprocess.run([*jupyter, str(target)], check=False)
    elif not args.no_open:
        print_message("Jupyter is not installed here: pip install jupyterlab anywidget, or open it in VS Code.")
    return None


def _title(path: Path) -> str:
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    return "".join(first).splitlines()[0].lstrip("# ")


def _jupyter() -> list[str] | None:
    """The command that opens a notebook; None where Jupyter is not installed beside this package."""
    import sys

    if find_spec("jupyterlab") is not None:
        return [sys.executable, "-m", "jupyterlab"]
    return [sys.executable, "-m", "notebook"] if find_spec("notebook") is not None else None
