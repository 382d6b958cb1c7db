"""``cdka run``."""

from __future__ import annotations

import argparse
from pathlib import Path

from cdka.cli.estimate import add_estimate_arguments, fitted, show_estimate
from cdka.cli.flags import add_data_arguments, add_spec_arguments, spec_settings, task_and_options
from cdka.cli.progress import exit_code, follow, print_failures
from cdka.errors import CdkaError
from cdka.runs.learning_rate import is_auto, recommended
from cdka.runs.metrics import TEST_ACCURACY, TEST_LOSS, words_of
from cdka.runs.resolve import resolve_run, spec_for
from cdka.runs.run import Run, judged, retained
from cdka.runs.store import Store
from cdka.sweep.launch import launch_runs
from cdka.terminal import print_json, print_message

HELP = "Fine-tune once and report the result. What is not given comes from the task's recipe."
EXAMPLE = "cdka run --model digits-vit --task digits-flip --components 2,8,4 --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a catalogue name, a Hub id or a local directory")
    parser.add_argument("--task", help="a task's name (cdka tasks), or a data file of your own, as --data takes it")
    add_spec_arguments(parser)
    add_data_arguments(parser)
    add_estimate_arguments(parser)
    parser.add_argument("--detach", action="store_true", help="queue the run, print its id and do not wait")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    task, options = task_and_options(args)
    if task is None:
        raise CdkaError("a run needs a task: got none. Use --task NAME (cdka tasks), or --data FILE.")
    settings = spec_settings(args)
    settings["task_options"] = {**options, **settings.get("task_options", {})}
    spec = spec_for(args.model, task, **settings)
    if is_auto(settings):
        print_message(f"learning rate {recommended(spec)}")
    store = Store()
    if args.time:
        open_batch = args.batch_size is None
        spec = spec.with_(**fitted([resolve_run(spec)], store, args.time, smaller_batches=open_batch))
    if args.estimate:
        return show_estimate([resolve_run(spec)], store, as_json=args.json)
    (run_id,) = launch_runs([spec], store)
    if args.detach:
        print_json(store.run(run_id).to_dict()) if args.json else print(run_id)
        return 0
    print_message(f"{run_id}: {spec.label} on {spec.model} and {spec.task}, {spec.steps} steps")
    runs = follow(store, [run_id])
    print_failures(store, runs)
    if not runs:
        print_message(f"{run_id} was removed meanwhile")
        return 1
    (ended,) = runs
    if args.json:
        print_json(ended.to_dict())
    elif ended.status.is_kept():
        for line in _report(ended):
            print(line)
    return exit_code(runs)


def _report(run: Run) -> list[str]:
    """The lines about a kept run: its metrics, its adapter, and the commands that go on from it."""
    metrics, kept = run.metrics, retained(run.metrics)
    accuracy, (used, of) = metrics.get(TEST_ACCURACY), judged(metrics)["test"]
    subset = "" if used is None or of is None or used == of else f" on {used:,} of {of:,} examples"
    measured = "no accuracy" if accuracy is None else f"test accuracy {accuracy:.3f}{subset}"
    loss = "" if metrics.get(TEST_LOSS) is None else f", test loss {metrics[TEST_LOSS]:.3f}"
    lines = [f"{run.status}: {measured}{loss}, {run.num_params:,} parameters, {run.seconds:.1f} s"]
    further = {name: value for name, value in metrics.items() if name.startswith("test/") and isinstance(value, float)}
    if beside := [f"{words_of(n)} {v:.3f}" for n, v in further.items() if n not in (TEST_ACCURACY, TEST_LOSS)]:
        lines.append(f"beside it: {', '.join(beside)}")
    if run.spec.retain:
        name = "accuracy" if kept["after"]["accuracy"] is not None and "/" not in run.spec.retain else "loss"
        before, after = kept["before"][name], kept["after"][name]
        if before is not None and after is not None:
            lines.append(f"kept ({Path(run.spec.retain).name}): {name} {before:.3f} before, {after:.3f} after")
    lines.append(f"adapter: {run.adapter_dir}")
    if run.answers_path.is_file():
        lines.append(f"its answers: cdka runs answers {run.run_id}")
        lines.append(f'ask it: cdka try {run.run_id} --prompt "..."')
    return lines
