"""``cdka tasks``."""

from __future__ import annotations

import argparse

from cdka.tasks.catalogue import TASKS
from cdka.terminal import print_json, print_table

HELP = "List the tasks known by name, embedded ones first."
EXAMPLE = "cdka tasks --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    tasks = sorted(TASKS.values(), key=lambda task: not task.embedded)
    rows = [
        {
            "name": task.name,
            "kind": task.kind,
            "metric": task.metric,
            "models": list(task.models),
            "examples": dict(task.examples),
            "chance": task.chance,
            "embedded": task.embedded,
            "recipe": dict(task.recipe),
            "licence": task.licence,
            "description": task.description,
        }
        for task in tasks
    ]
    if args.json:
        return print_json({"tasks": rows})
    print_table(
        ["name", "kind", "metric", "train", "validation", "test", "made for"],
        [
            [
                t.name,
                t.kind,
                t.metric,
                *(t.examples.get(s, "") for s in ("train", "validation", "test")),
                ", ".join(t.models) or "any",
            ]
            for t in tasks
        ],
    )
