"""``cdka import``."""

from __future__ import annotations

import argparse

from cdka.cli.exchange_flags import add_json, add_model, report
from cdka.components import Components

HELP = "Read an adapter of any known kind and save it as a CDKA adapter with the same delta W, exactly."
EXAMPLE = "cdka import my-lokr.safetensors my-cdka"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a safetensors file, or a folder with one: LoRA, LoKr, LoHa, CDKA")
    parser.add_argument("out", metavar="OUT", help="the directory to write; new or empty")
    add_model(parser)
    parser.add_argument("--only", metavar="PREFIX", help="of a file for several models, this part: lora_unet_")
    parser.add_argument(
        "--components", metavar="R1,R2,R", help="of a file of the research code that does not name them"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    from cdka.adapter_files import import_adapter

    components = None if args.components is None else Components.parse(args.components)
    done = import_adapter(args.path, args.out, model=args.model, only=args.only, components=components)
    report(done, args.json)
