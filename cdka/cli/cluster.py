"""``cdka cluster``."""

from __future__ import annotations

import argparse
import os
from typing import Any

from cdka.engine.clusters import look
from cdka.engine.contract import engine_of
from cdka.errors import CdkaError
from cdka.runs.job_queue import live_jobs
from cdka.runs.spec import ENGINE_VARIABLE, LOCAL, check_engine
from cdka.runs.store import Store
from cdka.terminal import print_json, print_message, print_table

HELP = "Show the nodes of a Ray cluster: their GPUs, the runs on them, and versions that do not match."
EXAMPLE = "cdka cluster --engine ray://10.0.0.1:10001"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        metavar="ray:ADDRESS",
        help=f"the cluster: ray:HOST:PORT or ray://HOST:PORT (default {ENGINE_VARIABLE})",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    address = args.engine or os.environ.get(ENGINE_VARIABLE) or LOCAL
    check_engine(address)
    if address == LOCAL:
        raise CdkaError(
            f"a cluster is named by its address: got none. Use --engine ray://HOST:10001, or set {ENGINE_VARIABLE}."
        )
    store = Store()
    found = look(store.home, address)
    where = runs_by_node(store, address)
    for node in found["nodes"]:
        node["runs"] = where.get(node["node"], [])
    waiting = len(store.runs(status="queued", settings={"engine": address}))
    if args.json:
        print_json({"engine": address, "nodes": found["nodes"], "jobs": found["jobs"], "queued": waiting})
    else:
        print_table(["node", "address", "GPUs", "CPUs", "cdka-studio", "torch", "runs"], map(_row, found["nodes"]))
        for node in found["nodes"]:
            if node.get("problem"):
                print_message(f"{node['name']} ({node['address']}): {node['problem']}")
        elsewhere = len(found["jobs"]) - sum(len({run["job_id"] for run in node["runs"]}) for node in found["nodes"])
        print_message(f"{waiting} queued from here" + (f"; {elsewhere} jobs of others" if elsewhere > 0 else ""))
    return 1 if any(node.get("problem") for node in found["nodes"]) else 0


def runs_by_node(store: Store, address: str) -> dict[str, list[dict[str, Any]]]:
    """The runs of this home at work on a cluster, by the id of their node."""
    found: dict[str, list[dict[str, Any]]] = {}
    for live in live_jobs(store.database):
        if live.identity is not None and engine_of(live.job.slot) == address:
            for run_id, attempt in live.job.runs:
                entry = {"run_id": run_id, "attempt": attempt, "job_id": live.job.job_id, "slot": live.job.slot}
                found.setdefault(live.identity[2], []).append(entry)
    return found


def _row(node: dict[str, Any]) -> list[Any]:
    versions = node.get("versions", {})
    return [
        node["name"] + (" (head)" if node["head"] else ""),
        node["address"],
        node["gpus"],
        node["cpus"],
        versions.get("cdka", "?"),
        versions.get("torch", "none"),
        " ".join(run["run_id"] for run in node["runs"]),
    ]
