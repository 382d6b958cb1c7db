"""``cdka compare``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cdka.compare.measure import AGGREGATIONS
from cdka.terminal import print_json, print_message, print_table

if TYPE_CHECKING:
    from cdka.notebook.compared import ComparedRuns

HELP = "Compare the finished runs of a sweep, or of a claim bundle: arms with intervals, verdicts, trends."
EXAMPLE = "cdka compare my-sweep --metric test/accuracy --export claim.zip"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep",
        nargs="?",
        help="id or name of a sweep, a claim bundle FILE.zip, or: example (default: the newest sweep)",
    )
    parser.add_argument(
        "--metric",
        help="test/accuracy, eval/accuracy, eval/loss, or any metric of the runs (default: test/accuracy where there "
        "is one, or what a bundle claims); accuracy is short for test/accuracy (with --aggregation best or step: "
        "eval/accuracy), and loss for eval/loss",
    )
    parser.add_argument("--aggregation", help=f"{', '.join(AGGREGATIONS)} (default: final, or as a bundle claims)")
    parser.add_argument("--step", type=int, help="the step to compare at, with --aggregation step")
    parser.add_argument("--reference", help="the arm to compare with, as in '2,8,4' or 'lora 8', or all-pairs")
    parser.add_argument(
        "--choose-lr", action="store_true", help="each configuration at its best learning rate on validation"
    )
    parser.add_argument(
        "--export",
        metavar="FILE",
        help="write a claim bundle (.zip), a table (.csv, .parquet), what makes it again (.py, .ipynb; its data beside "
        "it), or the figure that FILE is named after: map.svg, front.png, accuracy-curves.html",
    )
    parser.add_argument(
        "--looks",
        type=int,
        default=1,
        metavar="N",
        help="how often these runs are looked at, decided before the first look: one planned top-up makes 2, and each "
        "look is held to 5 %% / N (default 1)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    from cdka.notebook.compared import compare_runs

    result = compare_runs(
        args.sweep,
        args.metric,
        at=args.aggregation,
        step=args.step,
        reference=args.reference,
        choose_lr=args.choose_lr or None,
        looks=args.looks,
    )
    found = result.to_dict()
    if args.export:
        print_message(f"wrote {result.export(args.export)}")
    if args.json:
        return print_json(found)
    _print(result)


def _print(result: ComparedRuns) -> None:
    found = result.to_dict()
    print(f"{found['comparison']}: {found['header']}\n")
    print_table(*result.table())
    if found["verdicts"]:
        print("\nVerdicts: differences over shared seeds, 95 % interval of each pair alone, Holm over all pairs")
        print_table(
            ["arm", "against", "verdict", "difference", "new seeds", "and new examples", "Holm p", "seeds", ""],
            map(_row, found["verdicts"]),
        )
    if found["trends"]:
        print("\nTrends: one slope per seed, the other two held fixed")
        for item in found["trends"]:
            print(f"  {item['text']}")
    print()
    for note in [*found["missing"], *found["scope"]]:
        print(note)


def _row(item: dict) -> list:
    from cdka.formatting import signed

    known = item["ci_low"] is not None
    welch = " (Welch)" if item["test"].startswith("Welch") else ""
    return [
        item["a"],
        item["b"],
        item["verdict"],
        None if item["difference"] is None else signed(item["difference"]),
        f"{signed(item['ci_low'])} to {signed(item['ci_high'])}" if known else "",
        "" if item["crossed_low"] is None else f"{signed(item['crossed_low'])} to {signed(item['crossed_high'])}",
        f"{item['p_holm']:.2g}" if known else "",
        f"{item['n']}{welch}",
        item["needs"],
    ]
