"""``cdka bench``."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from cdka.bench import BENCHES
from cdka.errors import CdkaError, unknown
from cdka.terminal import print_json

HELP = "Measure our ratios on this machine."
EXAMPLE = "cdka bench layer --json > layer.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {what}" for name, what in BENCHES.items())
    parser.add_argument("bench", nargs="?", default="layer", metavar="NAME", help=f"{listed} (default: layer)")
    parser.add_argument("--quick", action="store_true", help="only what the targets are stated for")
    parser.add_argument("--rounds", type=int, help="timed rounds per cell (default: the bench's own, at least 20)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0 (default: auto)")
    parser.add_argument("--model", metavar="FOLDER", help="with train: a causal language model to measure on")
    parser.add_argument("--markdown", action="store_true", help="the table of targets alone, in Markdown")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def find_bench(name: str) -> ModuleType:
    """The bench's module. Raises CdkaError for an unknown name, or one whose module is not installed."""
    if name not in BENCHES:
        raise unknown("bench", name, BENCHES)
    if find_spec(f"cdka.bench.{name}") is None:
        here = [known for known in BENCHES if find_spec(f"cdka.bench.{known}")]
        raise CdkaError(f"the bench {name!r} is not part of this installation. Available: {', '.join(here)}.")
    return import_module(f"cdka.bench.{name}")


def run(args: argparse.Namespace) -> None:
    if args.rounds is not None and args.rounds < 1:
        raise CdkaError(f"--rounds must be a positive integer: got {args.rounds}.")
    bench = find_bench(args.bench)
    if args.markdown and not hasattr(bench, "markdown"):
        raise CdkaError(f"--markdown goes with a bench that has targets, such as layer: got {args.bench!r}.")
    if args.model is not None and args.bench != "train":
        raise CdkaError(f"--model goes with the bench train: got {args.bench!r}. Leave it out.")
    document = bench.run(args)
    if args.json:
        print_json(document)
    elif args.markdown:
        print(bench.markdown(document))
    else:
        bench.show(document)
