"""``cdka solve``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from cdka.align.gradient_pattern import measure_pattern
from cdka.components import INDIVISIBLE
from cdka.errors import CdkaError
from cdka.formatting import count
from cdka.machine import Device, detect_device
from cdka.models.targets import notes_on
from cdka.notebook.options import Listing, columns_of, rows_of
from cdka.solver import MEASURES, Option, Setting, advise, explore, parse_weights, pattern, resources, usual_setting
from cdka.solver.default_option import Advice, record, sentence
from cdka.solver.explain import fitted_in_words
from cdka.solver.resources import fitting_rows
from cdka.solver.search import Solution
from cdka.tasks.catalogue import TASKS
from cdka.tasks.files.table import looks_like_data
from cdka.terminal import print_json, print_message, print_table

HELP = "List the component options (r1, r2, r) that fit a parameter budget, with exact counts."
EXAMPLE = "cdka solve llama-2-7b --budget lora:8 --max-r1 16 --max-r2 64 --top 12"
_DRAWN = (
    *("", "r1", "r2", "r", "parameters", "budget", "alignment", "rank", "LoRA export", "arithmetic", "memory"),
    *("file", "guideline"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a catalogue name, a Hub id or a local directory")
    parser.add_argument("--budget", required=True, help="2500000, 2.5M, 0.5%% of the model, lora:8, or 4MB of file")
    parser.add_argument(
        "--target-modules", default="all-linear", help="all-linear, attention, mlp, or names: q_proj,v_proj"
    )
    parser.add_argument("--max-r1", type=int, help="largest r1")
    parser.add_argument("--max-r2", type=int, help="largest r2")
    parser.add_argument("--max-r", type=int, help="largest number of components")
    parser.add_argument(
        "--indivisible",
        choices=INDIVISIBLE,
        default="error",
        help="also count options that do not divide every module: those are left out (skip) or get the nearest",
    )
    parser.add_argument("--alpha", type=float, default=64.0, help="alpha, for the scaling column (default 64)")
    parser.add_argument("--weights", help="order by weighted objectives, for example alignment=2,rank=1,flops=1")
    parser.add_argument("--per-module", choices=MEASURES, help="also pick components per module, maximising this")
    parser.add_argument(
        "--from-gradients",
        action="store_true",
        help="also pick components per module that capture most of the gradient measured on --task",
    )
    parser.add_argument("--task", help="the task, or a data file, whose gradient --from-gradients measures")
    parser.add_argument("--batches", type=int, default=8, metavar="N", help="training batches measured (default 8)")
    parser.add_argument("--batch-size", type=int, help="with --length: estimate the memory that training takes")
    parser.add_argument("--length", type=int, help="tokens per example (vision models know theirs)")
    parser.add_argument("--dtype", default="auto", help="of the frozen base: bfloat16 on a GPU, float32 on a CPU")
    parser.add_argument("--gpu-memory", type=float, help="GB of the GPU to train on (default: this machine's memory)")
    parser.add_argument("--max-export-rank", type=int, help="largest rank of the exact LoRA export, for a server")
    parser.add_argument("--top", type=int, help="how many options to list (default: 20 in the table, all in JSON)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    if args.top is not None and args.top < 1:
        raise CdkaError(f"--top must be a positive integer: got {args.top}. Leave it out for the default.")
    if args.per_module is not None and args.indivisible != "error":
        raise CdkaError(
            "--per-module gives each module components that divide it: got --indivisible "
            f"{args.indivisible} too. Leave one out."
        )
    if args.from_gradients and args.task is None:
        raise CdkaError("--from-gradients measures the gradient on a task: got none. Use --task NAME or --task FILE.")
    if args.from_gradients and args.indivisible != "error":
        raise CdkaError(
            f"--from-gradients gives each module components that divide it: got --indivisible {args.indivisible} too. "
            "Leave one out."
        )
    solution = explore(
        args.model,
        args.budget,
        target_modules=args.target_modules,
        max_r1=args.max_r1,
        max_r2=args.max_r2,
        max_r=args.max_r,
        alpha=args.alpha,
        weights=parse_weights(args.weights) if args.weights else None,
        indivisible=args.indivisible,
    )
    device = None if args.gpu_memory is None else _gpu(args.gpu_memory)  # None: the choice looks at no device
    setting = _setting(args, usual_setting(solution.shapes))
    advice = advise(solution, setting=setting, device=device, max_export_rank=args.max_export_rank)
    extra = {}
    if args.per_module:
        extra["pattern"] = pattern(solution, args.per_module).to_dict()
    if args.from_gradients:
        extra["from_gradients"] = _from_gradients(args)
    if args.batch_size is not None and not args.from_gradients:
        extra["resources"] = resources(
            solution, advice.option, batch_size=args.batch_size, length=args.length, dtype=args.dtype, device=device
        )
    if args.json:
        return print_json({**_document(solution, advice, args), **extra})
    print_message(sentence(advice, solution))
    if told := record():
        print_message(told)
    top = 20 if args.top is None else args.top
    options = solution.top(top)
    listed = {option.components for option in options}
    options += [option for option in solution.presets().values() if option.components not in listed]
    _table(list(dict.fromkeys(options)), solution, advice)
    print_message(
        f"{solution.shapes.name}: {len(solution):,} options within {solution.budget_params:,} parameters on "
        f"{solution.num_modules} modules ({', '.join(solution.target_names)}); the first {min(top, len(solution))} and "
        "the guidelines are listed."
    )
    for note in notes_on(solution.shapes):
        print_message(f"note: {note}")
    if note := fitted_in_words(advice.option, solution):
        print_message(note)
    for goal, option in advice.others.items():
        kind = f"{option.components}, {count(option.num_params)} parameters, rank {option.rank_bound:,}"
        print_message(f"For {goal}: {kind}.")
    if "pattern" in extra:
        _print_pattern(extra["pattern"])
    if "from_gradients" in extra:
        _print_gradient_pattern(extra["from_gradients"], solution)
    if "resources" in extra:
        _print_resources(extra["resources"])


def _from_gradients(args: argparse.Namespace) -> dict:
    """The pattern of the measured gradient, and the command that trains it."""
    task: str = args.task
    options: Mapping[str, Any] = {}
    if task not in TASKS and looks_like_data(task):
        from cdka.tasks.files.preview import task_for

        task, options = task_for(task, {}, None)
    limits = {name: getattr(args, name) for name in ("max_r1", "max_r2", "max_r") if getattr(args, name) is not None}
    targets = args.target_modules
    found = measure_pattern(
        args.model,
        task,
        args.budget,
        measure=args.per_module or "overall",
        batches=args.batches,
        batch_size=args.batch_size or 64,
        target_modules=targets.split(",") if "," in targets else targets,
        limits=limits,
        task_options=options,
    )
    words = ["cdka", "run", "--model", args.model, "--task", args.task, "--components", str(found.default)]
    words += [] if targets == "all-linear" else ["--target-modules", targets]
    for key, components in found.component_pattern().items():
        words += ["--pattern", f"{key}={components}"]
    return {**found.to_dict(), "task": task, "run": shlex.join(words)}


def _print_gradient_pattern(document: dict, solution: Solution) -> None:
    print_message(
        f"From the gradient on {document['task']}, {document['measure']}: the best start could align "
        f"{document['value']:.4f} with {document['num_params']:,} parameters of {solution.budget_params:,}, instead of "
        f"{document['uniform_value']:.4f} with {','.join(map(str, document['uniform']))} everywhere:"
    )
    print_table(["module", "r1,r2,r"], [[path, ",".join(map(str, c))] for path, c in document["choices"].items()])
    print_message(document["run"])


def _gpu(gigabytes: float) -> Device:
    if not 0 < gigabytes < 1e6:
        raise CdkaError(f"--gpu-memory is a number of GB: got {gigabytes:g}. Example: --gpu-memory 24.")
    return Device(f"a GPU of {gigabytes:g} GB", "cuda", int(gigabytes * 1e9), int(gigabytes * 1e9))


def _setting(args: argparse.Namespace, usual: Setting) -> Setting:
    dtype = usual.dtype if args.dtype == "auto" else args.dtype
    return Setting(args.batch_size or usual.batch_size, args.length or usual.length, dtype)


def _document(solution: Solution, advice: Advice, args: argparse.Namespace) -> dict:
    """The options with what training each takes, and the advice."""
    document = solution.to_json(args.top)
    memory, able = fitting_rows(solution, advice.setting, advice.device or detect_device())
    for row, option in enumerate(document["options"]):  # the columns are in the order of the options
        option["memory_bytes"] = None if memory is None else int(memory[row])
        option["fits"] = None if able is None else bool(able[row])
    chosen = solution.row(advice.option.components)
    document["notes"] = list(notes_on(solution.shapes))
    return {**document, "advice": {**advice.to_dict(), "fits": None if able is None else bool(able[chosen])}}


def _table(options: list[Option], solution: Solution, advice: Advice) -> None:
    device = advice.device or detect_device()
    memory, able = fitting_rows(solution, advice.setting, device)
    rows = [solution.row(option.components) for option in options]
    listing = Listing(
        options, len(options), None if memory is None else memory[rows], None if able is None else able[rows]
    )
    columns = columns_of(listing, advice.option.components, device)
    names = [*_DRAWN, *(["fits"] if "fits" in columns else [])]
    print_table(names, rows_of(columns, names))


def _print_pattern(document: dict) -> None:
    chosen = ", ".join(f"{path.rsplit('.', 1)[-1]} {','.join(map(str, c))}" for path, c in document["choices"].items())
    print_message(
        f"Per module, maximising {document['measure']} alignment: {document['value']:.4f} instead of "
        f"{document['uniform_value']:.4f} with {','.join(map(str, document['uniform']))} everywhere: {chosen}."
    )


def _print_resources(document: dict) -> None:
    verdict = "fits" if document["fits"] else "does not fit"
    print_message(
        f"Training {','.join(map(str, document['components']))} takes about {document['total_bytes'] / 1e9:.2f} GB "
        f"(estimate, within 15 %) and {verdict} {document['device']} with {document['free_bytes'] / 1e9:.1f} GB free."
    )
