"""``cdka data``."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from cdka.cli.flags import add_data_arguments, task_and_options
from cdka.runs.resolve import spec_for
from cdka.tasks.files.preview import Preview, histogram, preview, token_preview
from cdka.tasks.rows import SPLITS
from cdka.terminal import print_json, print_table

HELP = (
    "Look at your own data before training: rows, columns, splits, lengths, and with --model the tokens and loss mask."
)
EXAMPLE = "cdka data reviews.csv --model minilm-l6 --label-column stars"
_BAR = 40
_FIRST = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_arguments(parser, positional=True)
    parser.add_argument(
        "--model", help="show the first batch as this model's tokens, and which of them the loss counts"
    )
    parser.add_argument("--max-length", type=int, metavar="N", help="longest sequence in tokens (default: the task's)")
    parser.add_argument("--rows", type=int, default=5, metavar="N", help="how many rows to show (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    task, options = task_and_options(args)
    seen = preview(task, options, rows=max(1, args.rows))
    tokens = None
    if args.model and task != "local-images":
        tokens = token_preview(spec_for(args.model, task, max_length=args.max_length, task_options=options))
    if args.json:
        return print_json(document(seen, options, tokens))
    _show(seen, options)
    if tokens is not None:
        _print_tokens(tokens, known_notes=seen.notes)


def document(seen: Preview, options: dict[str, Any], tokens: dict[str, Any] | None) -> dict[str, Any]:
    """The preview as JSON."""
    return {
        "task": seen.task,
        "task_options": options,
        "columns": list(seen.columns),
        "roles": dict(seen.roles),
        "unused": list(seen.unused),
        "first": dict(seen.first),
        "rows": seen.head.to_dict("records"),
        "examples": dict(seen.examples),
        "labels": {split: counts.to_dict() for split, counts in seen.labels.items()},
        "characters": {split: histogram(lengths) for split, lengths in seen.lengths.items()},
        "tokens": tokens,
        "notes": list(seen.notes),
    }


def _show(seen: Preview, options: dict[str, Any]) -> None:
    roles = ", ".join(f"{role.removesuffix('_column')} = {name!r}" for role, name in seen.roles.items())
    print(f"{options['data']}\ntask {seen.task}" + (f": {roles}" if roles else ""))
    print("examples: " + ", ".join(f"{seen.examples[split]:,} {split}" for split in SPLITS) + "\n")
    width = max(16, (shutil.get_terminal_size().columns - 2) // max(1, len(seen.head.columns)) - 2)
    print_table(
        list(map(str, seen.head.columns)),
        [[textwrap.shorten(str(value), width) for value in row] for row in seen.head.itertuples(index=False)],
    )
    if seen.first:
        print("\nthe first training example")
        for name, text in seen.first.items():
            print(f"  {name}: {textwrap.shorten(text, _FIRST, placeholder=' ...')!r}")
    if len(seen.labels):
        print()
        print_table(["label", *SPLITS], [[name, *row[list(SPLITS)]] for name, row in seen.labels.iterrows()])
    if seen.lengths:
        _bars("characters per training example", seen.lengths["train"])
    _notes(seen.notes)


def _print_tokens(tokens: dict[str, Any], known_notes: Sequence[str]) -> None:
    _bars(f"tokens per training example (max_length {tokens['max_length']})", tokens["lengths"]["train"])
    print("\nfirst batch; [[ ]] is what the loss counts")
    for example in tokens["batch"]:
        pieces, inside = [], False
        for token, judged in zip(example["tokens"], example["judged"], strict=True):
            pieces.append(("[[" if judged and not inside else "]]" if inside and not judged else "") + token)
            inside = judged
        label = f"  -> [[{tokens['labels'][example['label']]}]]" if "label" in example else ""
        print(f"  {(''.join(pieces) + ']]' * inside)!r}{label}")
    _notes([note for note in tokens["notes"] if note not in known_notes])


def _bars(title: str, lengths: list[int]) -> None:
    bins = histogram(lengths)
    most = max(number for _, _, number in bins)
    print(f"\n{title}")
    for low, high, number in bins:
        lengths_here = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        print(f"  {lengths_here:>18}  {'#' * round(_BAR * number / most)} {number:,}")


def _notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"\nnote: {note}")
