"""``cdka runs``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from cdka.engine import local
from cdka.errors import CdkaError, unknown
from cdka.formatting import clock
from cdka.runs.job_queue import live_jobs
from cdka.runs.metrics import EVAL_ACCURACY, TEST_ACCURACY
from cdka.runs.run import Run
from cdka.runs.spec import LOCAL
from cdka.runs.states import RunState
from cdka.runs.store import Store
from cdka.terminal import print_json, print_message, print_table

HELP = "List, show, stop, cancel, retry or remove runs, or read their answers. An id may be shortened to its beginning."
EXAMPLE = "cdka runs show r-4kq7mz2n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", default="list", metavar="ACTION", help=", ".join(_ACTIONS))
    parser.add_argument("ids", nargs="*", metavar="ID", help="the run, or several")
    parser.add_argument("--status", help=f"list only these: {', '.join(tuple(RunState))}")
    parser.add_argument("--sweep", help="list only the runs of this sweep")
    parser.add_argument(
        "--search",
        metavar="TEXT",
        help="list only those with these words in their id, state, settings, error or date: 'lora 8 seed 3'",
    )
    parser.add_argument("--top", type=int, default=30, help="how many to list, newest first (default 30; 0: all)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _state(run: Run) -> dict[str, Any]:
    """A run as JSON, with all that the store knows of it."""
    return {
        **run.to_dict(),
        "sweep_id": run.sweep_id,
        "label": run.spec.label,
        "phase": run.phase,
        "step": run.step,
        "attempt": run.attempt,
        "stop": run.stop_requested,
        "last_eval": dict(run.last_eval),
        "peak_bytes": run.peak_bytes,
        "remaining_s": run.remaining_s,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "directory": str(run.directory),
        "spec": run.spec.to_dict(),
    }


_HEAD = (
    "run",
    "status",
    "step",
    "method",
    "model",
    "task",
    "seed",
    "parameters",
    "validation",
    "test",
    "time",
    "asked for",
)


def _share(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.3f}"


def _list(store: Store, args: argparse.Namespace) -> None:
    if args.top < 0:
        raise CdkaError(f"--top must be 0 (all) or a positive integer: got {args.top}.")
    if args.status is not None and args.status not in tuple(RunState):
        raise unknown("status", args.status, tuple(RunState))
    if args.sweep is not None:
        store.sweep(args.sweep)
    asked = {"status": args.status, "sweep_id": args.sweep, "text": args.search}
    total = store.count(**asked)
    shown = store.runs(**asked, newest_first=True, limit=args.top or None)
    for name, damage in store.damaged.items():
        print_message(f"note: the record of {name} is damaged and left out ({damage}); remove it: cdka runs rm {name}")
    if args.json:
        return print_json({"runs": [_state(run) for run in shown], "total": total})
    rows = []
    for run in shown:
        validation = run.metrics.get(EVAL_ACCURACY, run.last_eval.get(EVAL_ACCURACY))
        rows.append(
            [
                run.run_id,
                run.status,
                f"{run.step}/{run.spec.steps}",
                run.spec.label,
                run.spec.model,
                run.spec.task,
                run.spec.seed,
                "" if run.num_params is None else f"{run.num_params:,}",
                _share(validation),
                _share(run.metrics.get(TEST_ACCURACY)),
                "" if run.seconds is None else clock(run.seconds),
                f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(run.created_at))}",
            ]
        )
    head = list(_HEAD)
    if any(run.spec.engine != LOCAL for run in shown):
        places = store.places([run.run_id for run in shown])
        head.append("where")
        for run, row in zip(shown, rows, strict=True):
            row.append(places.get(run.run_id, (run.spec.engine, None))[0])
    print_table(head, rows)
    if total > len(shown):
        print_message(f"{len(shown)} of {total:,} runs; --top 0 lists all")
    return None


def _show(store: Store, args: argparse.Namespace) -> None:
    run = store.run(_one(args))
    attempts = store.attempts(run.run_id)
    if args.json:
        return print_json({**_state(run), "attempts": attempts})
    facts = _state(run)
    del facts["metrics"]
    facts |= {f"metrics.{key}": value for key, value in run.metrics.items()}
    facts |= {f"spec.{key}": value for key, value in facts.pop("spec").items()}
    print_table(["", ""], [[key, value] for key, value in facts.items() if value not in (None, {}, [])])
    return None


def _log(store: Store, args: argparse.Namespace) -> None:
    run = store.run(_one(args))
    text = store.log(run.run_id)
    if args.json:
        return print_json({"run_id": run.run_id, "attempt": run.attempt, "log": text})
    print(text, end="")
    return None


def _answers(store: Store, args: argparse.Namespace) -> None:
    run = store.run(_one(args))
    if not run.answers_path.is_file():
        raise CdkaError(
            f"generated answers are kept of runs that generate text, once they are done: {run.run_id} has none "
            f"({run.status}, {run.spec.task})."
        )
    found = [json.loads(line) for line in run.answers_path.read_text(encoding="utf-8").splitlines()]
    if args.json:
        return print_json({"run_id": run.run_id, "answers": found})
    for one in found:
        verdict = "right" if one["predicted"] == one["label"] else f"wrong, the answer is {one['label']}"
        print(f"--- example {one['example']}: {verdict}\n{one['prompt'].strip()}\n> {one['answer'].strip()}\n")
    return None


def _each(act: Callable[[Store, list[str]], None]) -> Callable[[Store, argparse.Namespace], None]:
    """An action on every run named, answering with what became of them."""

    def action(store: Store, args: argparse.Namespace) -> None:
        if not args.ids:
            raise CdkaError(f"which run is meant: got no id. Example: cdka runs {args.action} r-4kq7mz2n")
        run_ids = list(dict.fromkeys(store.find_id(name) for name in args.ids))
        act(store, run_ids)
        left = {run.run_id: run.status for run in store.runs(ids=run_ids)}
        answers = [{"run_id": run_id, "status": left.get(run_id, "removed")} for run_id in run_ids]
        if args.json:
            return print_json({"runs": answers})
        for answer in answers:
            print(f"{answer['run_id']} {answer['status']}")
        return None

    return action


def _cancel(store: Store, run_ids: list[str]) -> None:
    store.request_stops(run_ids, keep=False)


def _stop(store: Store, run_ids: list[str]) -> None:
    store.request_stops(run_ids, keep=True)


def _remove(store: Store, run_ids: list[str]) -> None:
    for run_id in run_ids:
        store.remove(run_id)


def _one(args: argparse.Namespace) -> str:
    if len(args.ids) != 1:
        raise CdkaError(f"cdka runs {args.action} takes one id: got {len(args.ids)}. See: cdka runs list")
    return args.ids[0]


_ACTIONS: dict[str, Callable[[Store, argparse.Namespace], None]] = {
    "list": _list,
    "show": _show,
    "log": _log,
    "answers": _answers,
    "stop": _each(_stop),
    "cancel": _each(_cancel),
    "retry": _each(Store.retry),
    "rm": _each(_remove),
}


def run(args: argparse.Namespace) -> None:
    if args.action not in _ACTIONS:
        raise unknown("action", args.action, _ACTIONS, next_step="See: cdka runs --help")
    store = Store()
    for trouble in local.troubles(store):
        print_message(f"note: {trouble}")
    local.conclude_orphans(store, live_jobs(store.database))  # a script that was killed left no report
    _ACTIONS[args.action](store, args)
    local.ensure_dispatcher(store)  # what was retried must start, and what died unseen must be seen
