"""``cdka solve``."""

from __future__ import annotations

import argparse

from cdka.errors import CdkaError
from cdka.solver import MEASURES, Option, explore, parse_weights, pattern, resources, why_this
from cdka.terminal import print_json, print_message, print_table

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
    parser.add_argument("--per-module", choices=MEASURES, help="also pick components per module, maximising this")
    parser.add_argument("--batch-size", type=int, help="with --length: estimate the memory that training takes")
    parser.add_argument("--length", type=int, help="tokens per example (vision models know theirs)")
    parser.add_argument("--dtype", default="auto", help="of the frozen base: bfloat16 on a GPU, float32 on a CPU")
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
    recommended = solution.preset("paper") or solution.top(1)[0]
    extra = {}
    if args.per_module:
        extra["pattern"] = pattern(solution, args.per_module).to_dict()
    if args.batch_size is not None:
        extra["resources"] = resources(
            solution, recommended, batch_size=args.batch_size, length=args.length, dtype=args.dtype
        )
    if args.json:
        return print_json({**solution.to_json(args.top), **extra})
    top = 20 if args.top is None else args.top
    options = solution.top(top)
    listed = {option.components for option in options}
    options += [option for option in solution.presets().values() if option.components not in listed]
    _table(list(dict.fromkeys(options)))
    print_message(
        f"{solution.shapes.name}: {len(solution):,} options within {solution.budget_params:,} parameters on "
        f"{solution.num_modules} modules ({', '.join(solution.target_names)}); the first {min(top, len(solution))} and "
        "the guidelines are listed."
    )
    print_message(why_this(recommended, solution))
    if "pattern" in extra:
        _say_pattern(extra["pattern"])
    if "resources" in extra:
        _say_resources(extra["resources"])


def _table(options: list[Option]) -> None:
    print_table(
        ["r1", "r2", "r", "parameters", "used", "alignment", "rank", "scaling", "FLOPs", "file", "Pareto", "guideline"],
        [
            [
                o.r1,
                o.r2,
                o.r,
                f"{o.num_params:,}",
                f"{o.budget_used:.1%}",
                f"{o.alignment:.4f}",
                o.rank_bound,
                f"{o.scaling:.3g}",
                f"{o.flops_overhead:.2%}",
                f"{o.adapter_bytes / 1e6:,.2f} MB",
                "yes" if o.pareto else "",
                ", ".join(o.presets),
            ]
            for o in options
        ],
    )


def _say_pattern(document: dict) -> None:
    chosen = ", ".join(f"{path.rsplit('.', 1)[-1]} {','.join(map(str, c))}" for path, c in document["choices"].items())
    print_message(
        f"Per module, maximising {document['measure']} alignment: {document['value']:.4f} instead of "
        f"{document['uniform_value']:.4f} with {','.join(map(str, document['uniform']))} everywhere: {chosen}."
    )


def _say_resources(document: dict) -> None:
    verdict = "fits" if document["fits"] else "does not fit"
    print_message(
        f"Training {','.join(map(str, document['components']))} takes about {document['total_bytes'] / 1e9:.2f} GB "
        f"(estimate, within 15 %) and {verdict} {document['device']} with {document['free_bytes'] / 1e9:.1f} GB free."
    )
