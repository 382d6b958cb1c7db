"""Make the test data of version 0.1.0: a home, a claim bundle and exports, and what 0.1.0 itself reads from them.

Run with a checkout of 0.1.0 (commit 9c5b7d5), whose path comes first in PYTHONPATH; about two minutes on two cores:

    PYTHONPATH=/path/to/0.1.0 python tests/data/make_home.py tests/data

Later versions are tested with the files that this wrote: it uses modules that they no longer have.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

HOME = Path("/tmp/cdka-home-0.1.0")

os.environ.update(CDKA_HOME=str(HOME), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", CDKA_SLOTS="2")

import cdka  # noqa: E402

assert cdka.__version__ == "0.1.0", "run this with a checkout of 0.1.0"

from app.learn import progress  # noqa: E402
from cdka.cli.main import main as command  # noqa: E402
from cdka.compare import Measure, StoreSource, compare  # noqa: E402
from cdka.compare.bundle import import_bundle, write_bundle  # noqa: E402
from cdka.engines import local  # noqa: E402
from cdka.finetune.spec import resolve  # noqa: E402
from cdka.runs.store import Store  # noqa: E402
from cdka.runs.transitions import reserve  # noqa: E402

VIT = {"model": "digits-vit", "task": "digits-flip"}
LONG = {"steps": 100_000, "eval_every": 20, "checkpoint_every": 20}
ensure_dispatcher = local.ensure_dispatcher


def cdka_json(*arguments: str) -> dict:
    """What ``cdka ARGUMENTS --json`` prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        command([*arguments, "--json"])
    return json.loads(out.getvalue())


def submit(store: Store, **settings) -> str:
    settings = {**VIT, "components": "2,8,1", "lr": 2e-3, "alpha": 8.0, "eval_every": 6, **settings}
    if settings.get("method", "cdka") != "cdka":
        settings["components"] = None
    return store.submit(resolve(settings.pop("model"), settings.pop("task"), **settings))[0]


def until(store: Store, run_id: str, true, s: float = 120.0):
    deadline = time.monotonic() + s
    while not true(run := store.run(run_id)):
        assert time.monotonic() < deadline, run
        ensure_dispatcher(store)
        time.sleep(0.02)
    return run


def ended(run) -> bool:
    return run.status in ("done", "stopped", "cancelled", "failed", "lost")


def pid_of(store: Store, run_id: str) -> int:
    return store.attempts(run_id)[-1]["pid"]


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def end_dispatcher(store: Store) -> None:
    """SIGKILL the dispatcher and its zygote, so that nobody sees how the runs at work end."""
    pid = local.dispatcher_pid(store.home)
    workers = {pid_of(store, run.run_id) for run in store.runs(status=("running", "stopping"))}
    for one in [*children(pid), pid]:
        if one not in workers:
            os.kill(one, signal.SIGKILL)


def make(store: Store) -> dict[str, str]:
    """All runs; returns run ids by what happened to them."""
    made = {}
    made["done-vit"] = submit(store, steps=18)
    made["done-math"] = submit(store, model="math-lm", task="math-chain", steps=8, eval_every=4, batch_size=32)
    made["done-dora"] = submit(store, method="dora", rank=2, steps=12)
    made["done-gradient-init"] = submit(store, init_weights="gradient", steps=12)
    made["failed"] = submit(store, lr=1e20, alpha=1e6, steps=12)
    for name in list(made):
        until(store, made[name], ended)
    made["stopped"] = submit(store, **LONG)
    made["cancelled"] = submit(store, **LONG)
    for name, keep in (("stopped", True), ("cancelled", False)):
        until(store, made[name], lambda run: run.step >= 25)
        store.request_stop(made[name], keep)
        until(store, made[name], ended)
    made["lost"] = submit(store, **LONG)
    made["retried"] = submit(store, steps=60, eval_every=20, checkpoint_every=20)
    for name in ("lost", "retried"):
        until(store, made[name], lambda run: run.step >= 25)
        os.kill(pid_of(store, made[name]), signal.SIGKILL)
        until(store, made[name], ended)
    store.retry(made["retried"])
    until(store, made["retried"], ended)
    sweeps = {
        "sweep": [
            "sweep",
            "--model",
            "digits-vit",
            "--task",
            "digits-flip",
            "--grid",
            "r1=1,2,4;r2=8;r=1",
            "--steps",
            "18",
            "--eval-every",
            "6",
            "--lr",
            "3e-3",
            "--alpha",
            "16",
            "--seeds",
            "3",
            "--baselines",
            "lora:2,full",
            "--name",
            "three r1 and two baselines",
            "--wait",
        ],
        "tuned": [
            "sweep",
            "--model",
            "digits-vit",
            "--task",
            "digits-flip",
            "--grid",
            "r1=2;r2=8;r=1",
            "--steps",
            "10",
            "--eval-every",
            "5",
            "--tune-lr",
            "1e-3,4e-3",
            "--seeds",
            "2",
            "--alpha",
            "16",
            "--baselines",
            "lora:2",
            "--name",
            "rates searched",
            "--wait",
        ],
    }
    for name, arguments in sweeps.items():
        made[name] = cdka_json(*arguments)["sweep_id"]
    found = cdka_json("study", "r1", "r", "--seeds", "2", "--steps", "8", "--eval-every", "4")
    for one in found["studies"]:
        made[f"study-{one['study']}"] = one["sweep_id"]
    cdka_json(
        "align", "digits-vit", "--task", "digits-flip", "--r1", "1,2", "--r2", "2,8", "--r", "1,2", "--inits", "2"
    )
    progress.save(progress.Progress().seen(1, 0).seen(1, 1).scored(1, 70).scored(1, 60).seen(3, 2))
    return made


def leave_at_work(store: Store, made: dict[str, str]) -> None:
    """Runs in every state of work, with nobody left: what an upgrade finds."""
    made["at-work-checkpoint"] = submit(store, **{**LONG, "steps": 80})
    made["at-work-cancelled"] = submit(store, **LONG)
    workers = []
    for name in ("at-work-checkpoint", "at-work-cancelled"):
        until(store, made[name], lambda run: run.step >= 25)
        workers.append(pid_of(store, made[name]))
        os.kill(workers[-1], signal.SIGSTOP)
    end_dispatcher(store)
    local.ensure_dispatcher = lambda *args, **more: False
    assert store.request_stop(made["at-work-cancelled"], keep=False) == "stopping"
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    made["at-work-unclaimed"] = submit(store, steps=12, seed=1)
    assert reserve(store, lambda spec: "cpu:0").runs[0][0] == made["at-work-unclaimed"]
    made["queued"] = submit(store, steps=12, seed=2)


def prune(store: Store, made: dict[str, str]) -> None:
    """Leave out weights that no test reads."""
    whole = [made["done-vit"], made["done-math"], made["stopped"], *small_adapters(store, made["sweep"])]
    for run in store.runs():
        for path in run.directory.glob("adapter*/*.safetensors"):
            if run.run_id not in whole:
                path.unlink()
        for folder in ("checkpoint", "checkpoint.old", "checkpoint.new"):
            if run.run_id != made["at-work-checkpoint"] and (run.directory / folder).exists():
                shutil.rmtree(run.directory / folder)
    for path in (HOME / "align").glob("*"):
        if path.suffix not in (".json", ".txt"):
            path.unlink()
    for name in ("dispatcher.log", "wanted"):
        (HOME / "engine" / name).unlink(missing_ok=True)
    for name in ("runs", "align"):
        hide_paths(HOME / name)


def small_adapters(store: Store, sweep_id: str) -> list[str]:
    """The first seed's runs of the sweep whose adapters are small: LoRA and the largest r1."""
    first = [run for run in store.runs(sweep_id=sweep_id) if run.spec.seed == 0]
    return [run.run_id for run in first if run.spec.label in ("lora 2", "cdka 4,8,1")]


def hide_paths(folder: Path) -> None:
    """Replace the paths of the machine that made this."""
    here = {str(Path(cdka.__file__).parents[1]): "/opt/cdka-studio-0.1.0", sys.prefix: "/opt/python"}
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".log", ".json", ".txt", ".md"):
            text = path.read_text(encoding="utf-8")
            for old, new in here.items():
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")


def reading(home: Path, made: dict[str, str]) -> dict:
    """All that 0.1.0 reads from ``home``, as plain data; the home's own path is written HOME."""
    os.environ["CDKA_HOME"] = str(home)
    store = Store(home)
    run_ids = [run.run_id for run in store.runs()]
    curves = store.curves(run_ids)
    found = {
        "runs": cdka_json("runs", "list", "--top", "0")["runs"],
        "frame": json.loads(store.frame().to_json(orient="records", double_precision=15)),
        "attempts": {run_id: store.attempts(run_id) for run_id in run_ids},
        "events": {
            run_id: {kind: len(store.events(run_id, kinds=[kind])) for kind in _kinds(store, run_id)}
            for run_id in run_ids
        },
        "curves": {
            run_id: {
                kind: {
                    column: [None if value != value else value for value in rows[column].tolist()]
                    for column in curves.columns[2:]
                }
                for kind, rows in some.groupby("kind")
            }
            for run_id, some in curves.groupby("run_id")
        },
        "predictions": {
            run_id: {column: rows[column].tolist() for column in rows.columns}
            for run_id in run_ids
            if len(rows := store.predictions(run_id))
        },
        "logs": {run_id: store.log(run_id) for run_id in run_ids},
        "sweeps": {
            sweep.sweep_id: {"name": sweep.name, "counts": dict(sweep.counts), "plan": dict(sweep.plan)}
            for sweep in store.sweeps()
        },
        "compare": {
            made["sweep"]: {
                "accuracy": cdka_json("compare", made["sweep"]),
                "loss": cdka_json("compare", made["sweep"], "--metric", "loss"),
                "best accuracy": cdka_json("compare", made["sweep"], "--aggregation", "best"),
                "best loss": cdka_json("compare", made["sweep"], "--aggregation", "best", "--metric", "loss"),
                "accuracy at step 12": cdka_json("compare", made["sweep"], "--step", "12"),
            },
            made["tuned"]: {"accuracy": cdka_json("compare", made["tuned"])},
            "bundle": {"accuracy": cdka_json("compare", str(TARGET / "bundle-0.1.0.zip"))},
        },
        "findings": {},
    }
    from cdka.studies.judge import judge

    for name, sweep_id in made.items():
        if name.startswith("study-"):
            found["findings"][sweep_id] = [one.to_dict() for one in judge(store, store.sweep(sweep_id))]
    store.close()
    os.environ["CDKA_HOME"] = str(HOME)
    return json.loads(json.dumps(found).replace(str(home), "HOME"))


def _kinds(store: Store, run_id: str) -> list[str]:
    return sorted({event["kind"] for event in store.events(run_id)})


def afterwards(made: dict[str, str]) -> dict:
    """How 0.1.0 itself goes on with the runs at work: their ends, and that of the one retried from its checkpoint."""
    copy = HOME.with_name(HOME.name + "-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(HOME, copy)
    store = Store(copy)
    names = ("at-work-checkpoint", "at-work-cancelled", "at-work-unclaimed", "queued")
    for name in names:
        until(store, made[name], ended)
    ends = {name: store.run(made[name]) for name in names}
    store.retry(made["at-work-checkpoint"])
    retried = until(store, made["at-work-checkpoint"], ended)
    resumed = store.events(retried.run_id, kinds=["resumed"])
    found = {name: {"status": run.status, "metrics": dict(run.metrics)} for name, run in ends.items()}
    found["at-work-checkpoint retried"] = {
        "status": retried.status,
        "metrics": dict(retried.metrics),
        "resumed": resumed[0]["step"],
    }
    end_dispatcher(store)
    store.close()
    shutil.rmtree(copy)
    for end in found.values():
        end["metrics"].pop("training_s", None)
    return found


def pack_up(folder: Path, target: Path) -> None:
    """``folder`` as a tar file that is the same whoever packs it."""

    def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        return item

    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=plain)


def main() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    store = Store(HOME)
    made = make(store)
    hide_paths(HOME / "runs")
    sweep = store.sweep(made["sweep"])
    source = StoreSource(store, [sweep.sweep_id], name=sweep.name)
    comparison = compare(source, Measure())
    some = small_adapters(store, sweep.sweep_id)
    bundle = write_bundle(comparison, source, TARGET / "bundle-0.1.0.zip", figures=False, adapters=some)
    import_bundle(bundle, HOME)
    exports = Path("/tmp/cdka-exports-0.1.0")
    shutil.rmtree(exports, ignore_errors=True)
    exports.mkdir()
    from cdka.compare.exports import export
    from cdka.compare.exports.tensorboard import write_tensorboard

    for suffix in ("csv", "parquet", "py", "ipynb"):
        export(comparison, source, exports / f"sweep.{suffix}")
    write_tensorboard(exports / "tensorboard", comparison, source)
    pack_up(exports, TARGET / "exports-0.1.0.tar.gz")
    leave_at_work(store, made)
    prune(store, made)
    store.database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    for path in HOME.glob("runs.sqlite3-*"):
        path.unlink()
    pack_up(HOME, TARGET / "home-0.1.0.tar.gz")
    found = {"made": made, **reading(HOME, made)}
    local.ensure_dispatcher = ensure_dispatcher
    found["afterwards"] = afterwards(made)
    with (TARGET / "home-0.1.0.json.gz").open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(json.dumps(found, indent=1, sort_keys=True).encode())


if __name__ == "__main__":
    TARGET = Path(sys.argv[1]).resolve()
    main()
