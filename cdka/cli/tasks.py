"""``cdka tasks``."""

from __future__ import annotations

import argparse

from cdka.notebook.verbs import list_tasks
from cdka.terminal import print_json, print_table

HELP = "List the tasks known by name, embedded ones first."
EXAMPLE = "cdka tasks --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    tasks = list_tasks()
    if args.json:
        return print_json(tasks.to_dict())
    print_table(*tasks.table())
