"""``cdka export``."""

from __future__ import annotations

import argparse

from cdka.cli.exchange_flags import add_json, add_model, report

HELP = "Save an adapter in the form that another program loads, with a plan of who does and who does not."
EXAMPLE = "cdka export runs/my-run/adapter my-lora --to lora"
TARGETS = (
    "lora (PEFT directory), kohya (LoRA file), lokr (LyCORIS file, r = 1), peft-lokr (PEFT directory, r = 1), cdka, "
    "official, storyaura, takenoko"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="a directory or a safetensors file of any known kind")
    parser.add_argument("out", metavar="OUT", help="where to write: a new or empty directory, or a .safetensors file")
    parser.add_argument("--to", required=True, metavar="KIND", help=TARGETS)
    parser.add_argument("--max-rank", type=int, metavar="N", help="refuse a LoRA above this rank")
    parser.add_argument("--approximate", action="store_true", help="write the nearest where it cannot be exact")
    parser.add_argument("--prefix", help="what stands before a module's path, such as lora_unet_ or diffusion_model.")
    add_model(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    from cdka.adapter_files import export_adapter

    done = export_adapter(
        args.adapter,
        args.out,
        args.to,
        max_rank=args.max_rank,
        approximate=args.approximate,
        prefix=args.prefix,
        model=args.model,
    )
    report(done, args.json)
