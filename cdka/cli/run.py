"""``cdka run``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from cdka.cli.estimate import add_estimate_arguments, fitted, show_estimate
from cdka.cli.flags import add_data_arguments, add_spec_arguments, spec_settings, task_and_options
from cdka.cli.progress import exit_code, follow, tell_failures
from cdka.errors import CdkaError
from cdka.runs.metrics import TEST_ACCURACY, with_old_names
from cdka.runs.resolve import resolve_run, spec_for
from cdka.runs.run import Run
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


def document(run: Run) -> dict[str, Any]:
    """A run as the JSON of ``cdka run --json``; its metrics stand there under the short names of 0.1.0 too."""
    kept = run.status.is_kept()
    return {
        "run_id": run.run_id,
        "status": run.status,
        "num_params": run.num_params,
        "metrics": with_old_names(run.metrics),
        "seconds": run.seconds,
        "adapter_dir": str(run.adapter_dir) if kept else None,
        "best_adapter_dir": str(run.best_adapter_dir) if kept and run.best_adapter_dir else None,
        "judged": judged(run.metrics) if kept else None,
        **({"retained": retained(run.metrics)} if kept and run.spec.retain else {}),
        "error": run.error,
    }


def judged(metrics: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """Counts of judged examples, ``[used, of]``, by split."""
    return {split: [metrics.get(f"{split}/examples"), metrics.get(f"{split}/of")] for split in ("eval", "test")}


def retained(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The retained task's metrics before and after the run."""
    return {
        when: {name: metrics.get(f"retained/{when}_{name}") for name in ("accuracy", "loss", "examples")}
        for when in ("before", "after")
    }


def run(args: argparse.Namespace) -> int:
    task, options = task_and_options(args)
    if task is None:
        raise CdkaError("a run needs a task: got none. Use --task NAME (cdka tasks), or --data FILE.")
    settings = spec_settings(args)
    settings["task_options"] = {**options, **settings.get("task_options", {})}
    spec = spec_for(args.model, task, **settings)
    store = Store()
    if args.time:
        spec = spec.with_(**fitted([resolve_run(spec)], store, args.time))
    if args.estimate:
        return show_estimate([resolve_run(spec)], store, as_json=args.json)
    (run_id,) = launch_runs([spec], store)
    if args.detach:
        print_json(document(store.run(run_id))) if args.json else print(run_id)
        return 0
    print_message(f"{run_id}: {spec.label} on {spec.model} and {spec.task}, {spec.steps} steps")
    runs = follow(store, [run_id])
    tell_failures(store, runs)
    if not runs:
        print_message(f"{run_id} was removed meanwhile")
        return 1
    (ended,) = runs
    if args.json:
        print_json(document(ended))
    elif ended.status.is_kept():
        accuracy = ended.metrics.get(TEST_ACCURACY)
        measured = "no accuracy" if accuracy is None else f"test accuracy {accuracy:.3f}"
        print(f"{ended.status}: {measured}, {ended.num_params:,} parameters, {ended.seconds:.1f} s")
        print(f"adapter: {ended.adapter_dir}")
    return exit_code(runs)
