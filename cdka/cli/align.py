"""``cdka align``."""

from __future__ import annotations

import argparse

from cdka.align import AlignRequest, align
from cdka.align.request import DEFAULT_R
from cdka.cli.output import print_json, print_table, say
from cdka.errors import CdkaError

HELP = "Measure how well each option's first step aligns with full fine-tuning's, from real gradients."
EXAMPLE = "cdka align digits-vit --task digits-flip --batches 1 --r1 1,2,4 --r2 2,8,32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a catalogue name with weights at hand, a Hub id or a local directory")
    parser.add_argument("--task", required=True, help="the task whose training batches are used")
    parser.add_argument("--batches", type=int, default=1, help="how many batches (default 1)")
    parser.add_argument("--batch-size", type=int, default=64, help="examples per batch (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="draws the batches and the initialisations (default 0)")
    parser.add_argument("--target-modules", default="all-linear", help="all-linear, attention, mlp, or q_proj,v_proj")
    parser.add_argument("--r1", default="", help="values of r1, for example 1,2,4 (default: all that divide, up to 16)")
    parser.add_argument("--r2", default="", help="values of r2 (default: all that divide, up to 64)")
    parser.add_argument("--r", default=",".join(map(str, DEFAULT_R)), help="values of r (default 1,2,4,8)")
    parser.add_argument("--inits", type=int, default=5, help="random initialisations per option (default 5)")
    parser.add_argument("--step", default="gradient", help="gradient (default), projection or adam")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    request = AlignRequest(
        model=args.model, task=args.task, batches=args.batches, batch_size=args.batch_size, seed=args.seed,
        target_modules=args.target_modules, inits=args.inits, step=args.step,
        r1_values=_numbers("r1", args.r1), r2_values=_numbers("r2", args.r2), r_values=_numbers("r", args.r),
    )  # fmt: skip
    said: set[str] = set()

    def tell(status) -> None:
        if status.phase not in said:
            said.add(status.phase)
            say(f"{status.phase} ...")

    record = align(request, tell)
    if args.json:
        return print_json(record.to_json())
    print_table(
        ["r1", "r2", "r", "parameters", "predicted", "measured", "spread", "best possible"],
        [
            [row["r1"], row["r2"], row["r"], f"{row['num_params']:,}", f"{row['predicted']:.4f}",
             f"{row['measured']:.4f}", f"{row['measured_sd']:.4f}", f"{row['best']:.4f}"]
            for row in record.to_json()["overall"]
        ],
    )  # fmt: skip
    say(
        f"{record.sampled_modules} of {record.target_modules} modules; measured over {request.inits} initialisations, "
        "modules weighed by the energy of their gradients."
    )


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise CdkaError(f"--{name} must be integers joined by commas: got {text!r}. Example: 1,2,4.") from None
