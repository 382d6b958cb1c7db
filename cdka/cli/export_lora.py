"""``cdka export-lora``."""

from __future__ import annotations

import argparse

from cdka.terminal import print_json, print_message

HELP = "Save a CDKA adapter as a standard PEFT LoRA adapter of rank r*r1*r2 with the same outputs."
EXAMPLE = "cdka export-lora runs/my-run/adapter my-lora"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter_dir", metavar="ADAPTER_DIR", help="a directory that save_pretrained wrote")
    parser.add_argument("out_dir", metavar="OUT_DIR", help="where to write; new or empty")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    from cdka.adapter_files import export_lora

    export = export_lora(args.adapter_dir, args.out_dir)
    ranks = sorted(set(export.ranks.values()))
    if args.json:
        print_json({"directory": str(export.directory), "ranks": export.ranks, "note": export.note})
    else:
        listed = ", ".join(map(str, ranks))
        print(f"LoRA of rank {listed} on {len(export.ranks)} modules written to {export.directory}")
    if export.note:
        print_message(export.note)
