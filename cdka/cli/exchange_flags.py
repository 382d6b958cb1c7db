"""Common parts of ``cdka import``, ``export`` and ``add``: flags, and the report of the written files."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from cdka.formatting import plural
from cdka.terminal import print_json, print_message

if TYPE_CHECKING:
    from cdka.adapter_files import Exchange


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        help="the base model: a folder of safetensors or a catalogue name; gives the paths of modules whose names are "
        "joined by underscores, and has all sizes checked",
    )


def report(done: Exchange, as_json: bool) -> None:
    """The result on stdout; where it will load, and what to know, on stderr."""
    if as_json:
        print_json(done.to_dict())
    else:
        kinds = Counter(str(module.components) for module in done.adapter.modules)
        listed = ", ".join(f"{name} ({count})" for name, count in kinds.most_common(4))
        more = f" and {len(kinds) - 4} more" if len(kinds) > 4 else ""
        exact = "exact" if done.exact else f"not exact, off by at most {done.error:.3g} of the norm of delta W"
        print(
            f"{done.adapter.kind}: {plural(len(done.adapter.modules), 'module')}, (r1, r2, r) = {listed}{more}, "
            f"{done.adapter.num_params:,} parameters, LoRA rank {max(done.ranks.values())}"
        )
        print(f"written as {done.target} to {done.path}: {exact}")
    for line in (*done.adapter.notes, *done.serving.lines):
        print_message(line)
