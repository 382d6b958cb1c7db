"""``cdka bench``."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from cdka.bench import BENCHES
from cdka.errors import CdkaError, unknown
from cdka.terminal import print_json

HELP = "Measure our ratios on this machine."
EXAMPLE = "cdka bench layer --json > layer.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {what}" for name, what in BENCHES.items())
    parser.add_argument("bench", nargs="?", default="layer", metavar="NAME", help=f"{listed} (default: layer)")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="only what the targets are stated for")
    extent.add_argument("--full", action="store_true", help="every cell, however long it takes (default: 3 minutes)")
    parser.add_argument("--rounds", type=int, help="timed rounds per cell (default: the bench's own)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0 (default: auto)")
    parser.add_argument(
        "--model", metavar="FOLDER", help=f"with {', '.join(MODEL_BENCHES)}: the model to measure on (folder or name)"
    )
    for flag, settings in PEFT_COMPARISON.items():
        parser.add_argument(flag, **settings)
    parser.add_argument("--markdown", action="store_true", help="the table of targets alone, in Markdown")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


MODEL_BENCHES = ("steps", "train", "peft-comparison")
"""The benches that measure a given model."""
PEFT_COMPARISON: dict[str, dict[str, Any]] = {
    "--task": {"metavar": "TASK", "help": "with peft-comparison: the task to train on (default: math-chain)"},
    "--retain": {"metavar": "TASK|FILE", "help": "with peft-comparison: what forgetting is measured on"},
    "--against": {"metavar": "NAMES", "help": "with peft-comparison: baselines at equal parameters (default: lora)"},
    "--steps": {"type": int, "metavar": "N", "help": "with peft-comparison: optimiser steps"},
    "--seeds": {"type": int, "metavar": "N", "help": "with peft-comparison: runs of each method (default: 1)"},
    "--out": {"metavar": "DIR", "help": "with peft-comparison: folder of the result files (default: peft-comparison)"},
}
"""The flags of one bench, refused with every other."""


def find_bench(name: str) -> ModuleType:
    """The bench's module. Raises CdkaError for an unknown name, or one whose module is not installed."""
    if name not in BENCHES:
        raise unknown("bench", name, BENCHES)
    if find_spec(_module(name)) is None:
        here = [known for known in BENCHES if find_spec(_module(known))]
        raise CdkaError(f"the bench {name!r} is not part of this installation. Available: {', '.join(here)}.")
    return import_module(_module(name))


def _module(name: str) -> str:
    return f"cdka.bench.{name.replace('-', '_')}"


def run(args: argparse.Namespace) -> None:
    for name in ("rounds", "steps", "seeds"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise CdkaError(f"--{name} must be a positive integer: got {value}.")
    bench = find_bench(args.bench)
    if args.markdown and not hasattr(bench, "markdown"):
        raise CdkaError(f"--markdown goes with a bench that has targets, such as layer: got {args.bench!r}.")
    if args.model is not None and args.bench not in MODEL_BENCHES:
        raise CdkaError(f"--model goes with the benches {', '.join(MODEL_BENCHES)}: got {args.bench!r}. Leave it out.")
    for flag in PEFT_COMPARISON:
        if getattr(args, flag.removeprefix("--")) is not None and args.bench != "peft-comparison":
            raise CdkaError(f"{flag} goes with the bench peft-comparison: got {args.bench!r}. Leave it out.")
    document = bench.run(args)
    if args.json:
        print_json(document)
    elif args.markdown:
        print(bench.markdown(document))
    else:
        bench.show(document)
