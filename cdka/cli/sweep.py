"""``cdka sweep``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from cdka.cli.estimate import add_estimate_arguments, fitted, show_estimate
from cdka.cli.flags import add_data_arguments, add_spec_arguments, seeds, spec_settings, task_and_options
from cdka.cli.progress import exit_code, follow, print_failures
from cdka.errors import CdkaError
from cdka.formatting import clock
from cdka.runs.store import Store
from cdka.sweep.forecast import forecast
from cdka.sweep.launch import launch
from cdka.sweep.plan import Arm, Plan, mismatch, plan
from cdka.sweep.planfile import read_plan
from cdka.terminal import print_json, print_message, print_table

HELP = "Fine-tune a grid or a list of configurations over several seeds, with baselines matched by parameters."
EXAMPLE = 'cdka sweep --model digits-vit --task digits-flip --grid "r1=1,2,4,8;r2=4;r=1" --seeds 3 --wait'


_EXAMPLES = {"model": "digits-vit", "task": "digits-flip"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("plan", nargs="?", metavar="PLAN.toml", help="a plan file; flags win over what it says")
    add("--model", help="a catalogue name, a Hub id or a local directory")
    add("--task", help="a task's name (cdka tasks), or a data file of your own, as --data takes it")
    add("--grid", metavar="AXES", help="axis=value,value;... over r1, r2, r, rank, method, lr, alpha, steps, ...")
    add("--seeds", metavar="N", help="a number of seeds, or a list: 0,1,7 (default 5, 3 up to three arms)")
    add("--baselines", metavar="NAMES", help="lora, lora-plain, lokr, dora, full; lora:4 fixes the rank")
    add(
        "--budget",
        metavar="B",
        help="what baselines are matched to: 50000, 0.5%%, lora:8, each (every price); default: the largest arm",
    )
    add("--options", type=int, metavar="N", help="add N CDKA options that use the budget, best aligned first")
    add("--tune-lr", metavar="RATES", help="learning rates tried for every arm, chosen on validation: 1e-3,3e-3")
    add("--halving", type=int, metavar="N", help="stop the weaker half of the arms N times, by eval loss")
    add("--name", help="what to call the sweep")
    add("--no-packs", action="store_true", help="train every run in a process of its own")
    add("--dry-run", action="store_true", help="show what would run, and run nothing")
    add("--yes", action="store_true", help="agree to more than 10,000 runs")
    add("--wait", action="store_true", help="wait until every run has ended, with progress")
    add("--json", action="store_true", help="one JSON document on stdout")
    add_spec_arguments(parser, without=("seed",))
    add_data_arguments(parser)
    add_estimate_arguments(parser)


def run(args: argparse.Namespace) -> int:
    planned = _planned(args)
    store = Store()
    if args.time:
        open_batch = args.batch_size is None and not args.plan
        settings = fitted(planned.runs, store, args.time, packs=not args.no_packs, smaller_batches=open_batch)
        planned = _planned(args, settings)
    if args.estimate:
        return show_estimate(planned.runs, store, packs=not args.no_packs, as_json=args.json)
    expected = forecast(planned.runs, store, packs=not args.no_packs)
    notes = [*planned.notes, *expected.notes]
    if args.dry_run:
        return _show(planned, {**expected.to_dict(), "notes": notes}, args.json)
    for note in notes:
        print_message(note)
    sweep_id = launch(planned, store, packs=not args.no_packs)
    guess = "" if expected.time.seconds is None else f", about {clock(expected.time.seconds)} ({expected.time.basis})"
    print_message(f"{sweep_id}: {len(planned.specs)} runs, {len(planned.arms)} arms{guess}")
    runs = store.runs(sweep_id=sweep_id)
    code = 0
    if args.wait:
        runs = follow(store, [run.run_id for run in runs])
        print_failures(store, runs)
        code = exit_code(runs)
    if args.json:
        listed = [{**one.to_dict(), "arm": one.spec.label, "seed": one.spec.seed, "lr": one.spec.lr} for one in runs]
        print_json({"sweep_id": sweep_id, "name": planned.name, "notes": notes, "runs": listed})
    else:
        print(sweep_id)
        print_message(f"compare its runs with: cdka compare {sweep_id}")
    return code


def _planned(args: argparse.Namespace, fitted_settings: Mapping[str, Any] | None = None) -> Plan:
    """The plan of the arguments; settings that were fitted to a time win over all others."""
    given: dict[str, Any] = read_plan(args.plan) if args.plan else {}
    task, options = task_and_options(args)
    flags = {
        "model": args.model,
        "task": task,
        "grid": args.grid,
        "name": args.name,
        "budget": args.budget,
        "options": args.options,
        "halving": args.halving,
        "seeds": None if args.seeds is None else seeds(args.seeds),
        "baselines": None if args.baselines is None else [b.strip() for b in args.baselines.split(",") if b.strip()],
        "tune_lr": None if args.tune_lr is None else _rates(args.tune_lr),
    }
    given.update({key: value for key, value in flags.items() if value is not None})
    given["settings"] = {**given.get("settings", {}), **spec_settings(args), **(fitted_settings or {})}
    if options:
        given["settings"]["task_options"] = {**options, **given["settings"].get("task_options", {})}
    for key in ("model", "task"):
        if key not in given:
            raise CdkaError(f"a sweep needs a model and a task: no {key} given. Example: --{key} {_EXAMPLES[key]}.")
    return plan(given.pop("model"), given.pop("task"), allow_many=args.yes, **given)


def _rates(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CdkaError(f"--tune-lr takes learning rates: got {text!r}. Example: --tune-lr 1e-3,3e-3.") from None


def _show(planned: Plan, seen: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print_json({"name": planned.name, **seen, "arms": planned.document["arms"], "notes": seen["notes"]})
        return 0
    print_table(
        ["arm", "parameters", "against budget", "lr", "steps"],
        [
            [_label(arm), f"{arm.num_params:,}", _against(planned, arm), _rate(planned, arm), arm.spec.steps]
            for arm in planned.arms
        ],
    )
    about = "" if seen["estimated_s"] is None else f", about {clock(seen['estimated_s'])} ({seen['estimated_from']})"
    memory = "" if seen["memory_bytes"] is None else f", up to {seen['memory_bytes'] / 1e9:.1f} GB per job"
    for line in (f"{seen['runs']} runs in {seen['jobs']} jobs{about}{memory}", *seen["notes"]):
        print_message(line)
    return 0


def _label(arm: Arm) -> str:
    return arm.spec.label + (" plain" if arm.spec.method == "lora" and arm.spec.scaling_rule == "r" else "")


def _against(planned: Plan, arm: Arm) -> str:
    gap = mismatch(arm, planned.document["budget"])
    return "" if gap is None else f"{gap:+.1%}"


def _rate(planned: Plan, arm: Arm) -> str:
    if arm.tuned:
        return " ".join(f"{rate:g}" for rate in planned.document["tune_lr"])
    return f"{arm.spec.lr:g}" + (" (not tuned)" if arm.tuned is False else "")
