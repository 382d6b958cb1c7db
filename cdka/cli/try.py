"""``cdka try``."""

from __future__ import annotations

import argparse
import sys

from cdka.engine.tryout import BASE, MAX_NEW_TOKENS, ask
from cdka.errors import CdkaError
from cdka.terminal import print_json

HELP = "Ask a fine-tuned model a question, beside its base and others."
EXAMPLE = 'cdka try RUN_ID --prompt "Ann has 3 apples and buys 4. How many has she?" --against base'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", help="a run's id, or the folder of an adapter or model")
    add("--prompt", metavar="TEXT", help="the question; for an image model, the path of a picture (default: stdin)")
    add("--against", metavar="NAMES", default=BASE, help="base and other runs or folders, by commas (default: base)")
    add("--max-new-tokens", type=int, metavar="N", help=f"longest answer (default {MAX_NEW_TOKENS})")
    add("--json", action="store_true", help="one JSON document on stdout")


def _from_stdin() -> str:
    """The text on stdin; empty where it is closed or cannot be read as text."""
    try:
        return "" if sys.stdin is None else sys.stdin.read().strip()
    except (OSError, ValueError):
        return ""


def run(args: argparse.Namespace) -> None:
    prompt = args.prompt if args.prompt is not None else _from_stdin()
    if not prompt:
        raise CdkaError("a question must be asked: got none. Use --prompt TEXT.")
    if args.max_new_tokens is not None and args.max_new_tokens < 1:
        raise CdkaError(f"--max-new-tokens must be at least 1: got {args.max_new_tokens}.")
    against = [name.strip() for name in args.against.split(",") if name.strip()]
    asking = ask(args.adapter, prompt, against=against, max_new_tokens=args.max_new_tokens)
    shown: dict[str, int] = {}
    while True:
        try:
            part = next(asking)
        except StopIteration as end:
            answers = end.value
            break
        if not args.json:
            _show(part, shown)
    if args.json:
        print_json({"answers": answers})
    else:
        print()


def _show(part: dict, shown: dict[str, int]) -> None:
    """Print what is new of an answer, under its name."""
    who, text = part["who"], part["text"]
    if who not in shown:
        print(("\n\n" if shown else "") + f"{who}:", flush=True)
        shown[who] = 0
    stable = len(text.rstrip("\ufffd"))  # half a character may still change
    print(text[shown[who] : stable], end="", flush=True)
    shown[who] = max(shown[who], stable)
