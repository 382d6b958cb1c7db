"""The solver on a 70B model: every option, and everything that the Design view shows of them."""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from typing import Any

from cdka.bench.timing import interleaved
from cdka.models.catalogue import find_model
from cdka.models.shapes import ModelShapes
from cdka.solver import explore, pattern, why_this
from cdka.solver.option import Option
from cdka.terminal import print_table

MODEL = "llama-3.1-70b"
BUDGETS = ("lora:8", "lora:64", "1%", "5%")
TARGET_S = 0.1


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds, all-linear: ``explore_s`` enumerates and ranks every option, ``options_s`` also builds each with
    all marks, ``view_s`` is what one interaction of the Design view needs (options, presets, explanation).
    """
    rounds = args.rounds or (5 if args.quick else 25)
    shapes = find_model(MODEL)
    rows = []
    for budget in BUDGETS:
        seconds = interleaved(
            {
                "explore_s": partial(explore, shapes, budget),
                "options_s": partial(_options, shapes, budget),
                "view_s": partial(_view, shapes, budget),
                "pattern_s": partial(_pattern, shapes, budget),
            },
            rounds=rounds,
        )
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        rows.append({"budget": budget, "options": len(explore(shapes, budget)), **medians})
    return {"model": MODEL, "rounds": rounds, "target_s": TARGET_S, "budgets": rows}


def show(document: dict[str, Any]) -> None:
    """The document as a table, times in milliseconds."""
    names = ("explore_s", "options_s", "view_s", "pattern_s")
    print_table(
        ["budget", "options", "ranked ms", "all built ms", "one view ms", "per module ms"],
        [[r["budget"], r["options"], *(f"{1e3 * r[name]:.1f}" for name in names)] for r in document["budgets"]],
    )
    print(f"{document['model']}, all-linear; target: all options in under {1e3 * document['target_s']:.0f} ms")


def _options(shapes: ModelShapes, budget: str) -> list[Option]:
    return explore(shapes, budget).options


def _pattern(shapes: ModelShapes, budget: str) -> object:
    return pattern(explore(shapes, budget))


def _view(shapes, budget: str) -> str:
    solution = explore(shapes, budget)
    chosen = solution.preset("paper") or solution.top(1)[0]
    solution.top(200)
    return why_this(chosen, solution)
