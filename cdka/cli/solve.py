"""``cdka solve``."""

from __future__ import annotations

import argparse

from cdka.cli.output import print_json, print_table, say
from cdka.errors import CdkaError
from cdka.solver import Option, explore, parse_weights, why_this

HELP = "List the component options (r1, r2, r) that fit a parameter budget, with exact counts."
EXAMPLE = "cdka solve llama-2-7b --budget lora:8 --max-r1 16 --max-r2 64 --top 12"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a catalogue name, a Hub id or a local directory")
    parser.add_argument("--budget", required=True, help="2500000, 2.5M, 0.5%% of the model, lora:8, or 4MB of file")
    parser.add_argument(
        "--target-modules", default="all-linear", help="all-linear, attention, mlp, or names: q_proj,v_proj"
    )
    parser.add_argument("--max-r1", type=int, help="largest r1")
    parser.add_argument("--max-r2", type=int, help="largest r2")
    parser.add_argument("--max-r", type=int, help="largest number of components")
    parser.add_argument("--alpha", type=float, default=64.0, help="alpha, for the scaling column (default 64)")
    parser.add_argument("--weights", help="order by weighted objectives, for example alignment=2,rank=1,flops=1")
    parser.add_argument("--top", type=int, help="how many options to list (default: 20 in the table, all in JSON)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    if args.top is not None and args.top < 1:
        raise CdkaError(f"--top must be a positive integer: got {args.top}. Leave it out for the default.")
    solution = explore(
        args.model,
        args.budget,
        target_modules=args.target_modules,
        max_r1=args.max_r1,
        max_r2=args.max_r2,
        max_r=args.max_r,
        alpha=args.alpha,
        weights=parse_weights(args.weights) if args.weights else None,
    )
    if args.json:
        return print_json(solution.to_json(args.top))
    top = 20 if args.top is None else args.top
    options = solution.top(top)
    listed = {option.components for option in options}
    options += [option for option in solution.presets().values() if option.components not in listed]
    _table(list(dict.fromkeys(options)))
    say(
        f"{solution.shapes.name}: {len(solution):,} options within {solution.budget_params:,} parameters on "
        f"{solution.num_modules} modules ({', '.join(solution.target_names)}); the first {min(top, len(solution))} and "
        "the guidelines are listed."
    )
    recommended = solution.preset("paper") or solution.top(1)[0]
    say(why_this(recommended, solution))


def _table(options: list[Option]) -> None:
    print_table(
        ["r1", "r2", "r", "parameters", "used", "alignment", "rank", "scaling", "FLOPs", "file", "Pareto", "guideline"],
        [
            [o.r1, o.r2, o.r, f"{o.num_params:,}", f"{o.budget_used:.1%}", f"{o.alignment:.4f}", o.rank_bound,
             f"{o.scaling:.3g}", f"{o.flops_overhead:.2%}", f"{o.adapter_bytes / 1e6:,.2f} MB",
             "yes" if o.pareto else "", ", ".join(o.presets)]
            for o in options
        ],
    )  # fmt: skip
