"""``cdka align``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from cdka.align import PREDICTORS, AlignRecord, AlignRequest, Status, align, does_it_predict
from cdka.align.request import DEFAULT_R
from cdka.cli.flags import add_data_arguments, task_and_options
from cdka.errors import CdkaError
from cdka.runs.store import Store
from cdka.terminal import print_json, print_message, print_table

HELP = "Measure how well each option's first step aligns with full fine-tuning's, from real gradients."
EXAMPLE = "cdka align digits-vit --task digits-flip --batches 1 --r1 1,2,4 --r2 2,8,32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a catalogue name with weights at hand, a Hub id or a local directory")
    parser.add_argument("--task", help="the task whose training batches are used, or your own file")
    parser.add_argument("--batches", type=int, default=1, help="how many batches (default 1)")
    parser.add_argument("--batch-size", type=int, default=64, help="examples per batch (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="draws the batches and the initialisations (default 0)")
    parser.add_argument("--target-modules", default="all-linear", help="all-linear, attention, mlp, or q_proj,v_proj")
    parser.add_argument("--r1", default="", help="values of r1, for example 1,2,4 (default: all that divide, up to 16)")
    parser.add_argument("--r2", default="", help="values of r2 (default: all that divide, up to 64)")
    parser.add_argument("--r", default=",".join(map(str, DEFAULT_R)), help="values of r (default 1,2,4,8)")
    parser.add_argument("--inits", type=int, default=5, help="random initialisations per option (default 5)")
    parser.add_argument("--step", default="gradient", help="gradient (default), projection or adam")
    parser.add_argument("--layers", action="store_true", help="a table of every layer instead of all together")
    parser.add_argument("--sweep", metavar="ID", help="also: does it predict how the runs of this sweep ended?")
    parser.add_argument(
        "--predictor",
        choices=list(PREDICTORS),
        default="measured",
        help="with --sweep: what is compared with the results",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_data_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from cdka.notebook.results import Alignment

    task, options = task_and_options(args)
    if task is None:
        raise CdkaError("cdka align needs the data whose gradients are measured: got none. Use --task or --data FILE.")
    request = AlignRequest(
        model=args.model,
        task=task,
        task_options=options,
        batches=args.batches,
        batch_size=args.batch_size,
        seed=args.seed,
        target_modules=args.target_modules,
        inits=args.inits,
        step=args.step,
        r1_values=_numbers("r1", args.r1),
        r2_values=_numbers("r2", args.r2),
        r_values=_numbers("r", args.r),
    )
    if args.sweep:
        Store().sweep(args.sweep)  # an unknown sweep is refused before the work, not after it
    announced: set[str] = set()

    def announce(status: Status) -> None:
        if status.phase not in announced:
            announced.add(status.phase)
            print_message(f"{status.phase} ...")

    record = align(request, announce)
    result = Alignment(record)
    verdict = None
    if args.sweep:
        verdict = does_it_predict(
            Store().frame(sweep_id=args.sweep),
            predictor=args.predictor,
            record=record,
            target_modules=args.target_modules,
        )
    if args.json:
        return print_json({**result.to_dict(), **({"verdict": verdict.to_json()} if verdict else {})})
    if args.layers:
        _layers(record)
    else:
        print_table(*result.table())
    if verdict:
        print_message(verdict.sentence())
    for note in result.notes():
        print_message(note)


def _layers(record: AlignRecord) -> None:
    rows = record.layers_frame().to_dict("records")
    print_table(
        ["layer", "r1", "r2", "r", "predicted", "measured", "spread", "best possible"],
        [[row["path"], row["r1"], row["r2"], row["r"], *_alignments(row)] for row in rows],
    )


def _alignments(row: Mapping[str, float]) -> list[str]:
    return [f"{row[name]:.4f}" for name in ("predicted", "measured", "measured_sd", "best")]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise CdkaError(f"--{name} must be integers joined by commas: got {text!r}. Example: 1,2,4.") from None
