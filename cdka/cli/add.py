"""``cdka add``."""

from __future__ import annotations

import argparse

from cdka.cli.exchange_flags import add_json, report
from cdka.components import Components
from cdka.errors import CdkaError

HELP = "Add two adapters into one CDKA adapter, exactly, at common divisors of their r1 and r2."
EXAMPLE = "cdka add adapter-a adapter-b both --weights 1,0.5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="an adapter of any known kind")
    parser.add_argument("second", metavar="B", help="another, on the same model")
    parser.add_argument("out", metavar="OUT", help="the directory to write; new or empty")
    parser.add_argument("--weights", default="1,1", metavar="WA,WB", help="the weight of each (default: 1,1)")
    parser.add_argument("--shrink", metavar="R1,R2,R", help="write the nearest adapter of this size, with its error")
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    from cdka.adapter_files import add_adapters

    to = None if args.shrink is None else Components.parse(args.shrink)
    report(add_adapters(args.first, args.second, args.out, weights=_weights(args.weights), to=to), args.json)


def _weights(text: str) -> tuple[float, float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 2 or not all(abs(number) < float("inf") for number in numbers):
        raise CdkaError(f"--weights takes two finite numbers: got {text!r}. Example: --weights 1,0.5")
    return numbers[0], numbers[1]
