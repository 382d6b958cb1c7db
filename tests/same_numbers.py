"""Print numbers of this package to the last digit, to compare two versions of it; runs under any checkout since 0.1.0.

    PYTHONPATH=CHECKOUT python tests/same_numbers.py             all, about three minutes on one core
    PYTHONPATH=CHECKOUT python tests/same_numbers.py quick       what takes seconds
    python tests/same_numbers.py quick --write FILE.json

``tests/data/numbers-0.1.0.json`` is what this printed at version 0.1.0 (commit 9c5b7d5);
``tests/test_same_numbers.py`` compares. It goes through ``cdka ... --json``, ``import cdka`` and the store; where only
a module has what is needed, ``NAMES`` lists where it is and was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

DATA = Path(__file__).resolve().parent / "data"
STEPS = 50
NAMES = {
    "train": ("cdka.train.loop:train", "cdka.finetune.loop:train"),
    "spec_for": ("cdka.runs.resolve:spec_for", "cdka.runs.spec:resolve", "cdka.finetune.spec:resolve"),
    "resolve_run": ("cdka.runs.resolve:resolve_run",),
    "count_params": ("cdka.cost.adapter:count_params", "cdka.finetune.counts:count_params"),
    "find_model": ("cdka.models.catalogue:find_model",),
    "select": ("cdka.models.targets:select",),
    "training_memory": ("cdka.cost.memory:training_memory", "cdka.memory:training_memory"),
    "judge": ("cdka.claims.judge:judge", "cdka.studies.judge:judge"),
}
"""Where a name stands now, and where it stood before, in this order."""
METRICS = {
    "accuracy": "test/accuracy",
    "test_loss": "test/loss",
    "test_examples": "test/examples",
    "validation_accuracy": "eval/accuracy",
    "validation_loss": "eval/loss",
    "validation_examples": "eval/examples",
    "best_validation_accuracy": "eval/best_accuracy",
    "train_loss": "train/loss",
}
"""The names that metrics had in 0.1.0, and what they are called since."""
MODELS = {"digits-vit": 64, "math-lm": 64, "llama-2-7b": 128, "vit-base": 64, "bert-base": 32, "t5-base": 32}
"""With the largest r1, r2 and r that the table of options goes to."""
BUDGETS = ("lora:1", "lora:2", "lora:8", "2%")
METHODS = (
    {"method": "cdka", "components": "2,8,4"},
    {"method": "cdka", "components": "4,2,1"},
    {"method": "lora", "rank": 8},
    {"method": "lokr", "rank": 4},
    {"method": "lokr", "rank": 8, "lokr_factor": 8},
    {"method": "dora", "rank": 2},
    {"method": "full"},
)


def named(name: str) -> Any:
    """The first of ``NAMES[name]`` that this checkout has."""
    for place in NAMES[name]:
        module, _, attribute = place.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise ImportError(f"{name} stands in none of {NAMES[name]}")


def cdka_json(*arguments: str) -> Any:
    """What ``cdka ARGUMENTS --json`` prints."""
    from cdka.cli.main import main

    out, told = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(told):
        code = main([*arguments, "--json"])
    assert code == 0, (arguments, code, told.getvalue())
    return json.loads(out.getvalue())


def base() -> str:
    """The base model that 0.1.0 called digits-vit, by its name in this checkout."""
    from cdka.paths import assets_dir

    return "digits-vit@2602" if (assets_dir() / "digits-vit@2602").is_dir() else "digits-vit"


def spec(model: str, task: str, **settings: Any) -> Any:
    return named("spec_for")(model, task, **settings)


def resolved(spec: Any) -> Any:
    """The spec as this checkout's training loop takes it."""
    try:
        return named("resolve_run")(spec)
    except ImportError:
        return spec


def plain(event: Any) -> dict[str, Any]:
    """An event as a dict, whatever it is in this checkout."""
    if isinstance(event, dict):
        return event
    as_json = getattr(event, "to_dict", None) or getattr(event, "to_json", None)
    return as_json() if as_json else {"kind": event.kind, **dataclasses.asdict(event)}


@contextmanager
def still_clock() -> Iterator[None]:
    """No trial of the pack schedule takes any time: all runs of a pack share a pass, on every machine."""
    real = time.perf_counter
    time.perf_counter = lambda: 0.0
    try:
        yield
    finally:
        time.perf_counter = real


def losses(specs: Sequence[Any]) -> list[dict[str, Any]]:
    """Per run of one pack: the training losses, the evaluations, and the final metrics."""
    import torch

    torch.set_num_threads(1)
    found: list[dict[str, Any]] = [{"train": [], "eval": [], "final": {}} for _ in specs]
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(i) for i in range(len(specs))]
        for place in places:
            place.mkdir()
        with still_clock():
            for index, event in named("train")([resolved(one) for one in specs], places):
                event = plain(event)
                run = found[index]
                if event["kind"] == "step":
                    run["train"].append(_either(event, "train/loss", "loss"))
                elif event["kind"] == "eval":
                    run["eval"].append([_either(event, f"eval/{key}", key) for key in ("accuracy", "loss")])
                elif event["kind"] == "final":
                    run["final"] = metrics(event["metrics"])
                assert event["kind"] != "failed", event
    return found


def _either(event: dict[str, Any], new: str, old: str) -> Any:
    return event[new] if new in event else event[old]


def metrics(found: dict[str, Any]) -> dict[str, Any]:
    """Under today's names, without what depends on the clock."""
    renamed = {METRICS.get(name, name): value for name, value in found.items()}
    return {name: renamed[name] for name in sorted({*METRICS.values()} & renamed.keys())}


def training() -> dict[str, Any]:
    vit = {"steps": STEPS, "eval_every": 25, "lr": 2e-3}
    found = {}
    for settings in METHODS[:1] + METHODS[2:4] + METHODS[5:]:
        for seed in (0, 1):
            run = spec(base(), "digits-flip", **vit, **settings, seed=seed)
            found[f"{run.label} seed {seed}"] = losses([run])[0]
    gradient = spec(base(), "digits-flip", **vit, **METHODS[0], init_weights="gradient")
    found["gradient init"] = losses([gradient])[0]
    language = spec("math-lm", "math-chain", components="2,8,1", steps=STEPS, eval_every=25, batch_size=16)
    found["math-lm"] = losses([language])[0]
    pack = [
        spec(base(), "digits-flip", **{**vit, "lr": lr}, components=components, seed=seed)
        for components, seed, lr in (("1,8,1", 0, 2e-3), ("2,8,4", 1, 1e-3), ("4,2,2", 2, 2e-3), ("1,1,3", 0, 3e-3))
    ]
    found["pack of four"] = losses(pack)
    return found


def some_steps() -> dict[str, Any]:
    run = spec(base(), "digits-flip", components="2,8,4", steps=6, eval_every=3, batch_size=16)
    return losses([run])[0]


def digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def options() -> dict[str, Any]:
    """Per model and budget: how many options, the first of them, and a digest of each column over all of them."""
    import cdka

    found = {}
    for model, most in MODELS.items():
        for budget in BUDGETS:
            # in the order of 0.1.0: now those that align equally are ordered by arithmetic, for a reason
            table = sorted(
                cdka.solve(model, budget, max_r1=most, max_r2=most, max_r=most),
                key=lambda o: (-o.alignment, -o.rank_bound, -o.r, o.num_params, o.flops_per_token),
            )
            columns = {
                name: [getattr(option, name) for option in table]
                for name in ("r1", "r2", "r", "num_params", "rank_bound", "alignment")
            }
            found[f"{model} {budget}"] = {
                "options": len(table),
                "first": [[values[i] for values in columns.values()] for i in range(min(20, len(table)))],
                **{name: digest(values) for name, values in columns.items()},
            }
    return found


def num_params() -> dict[str, int]:
    count, find_model = named("count_params"), named("find_model")

    def counted(run: Any) -> int:
        one = resolved(run)
        return count(one) if one is not run else count(run, find_model(run.model))

    tasks = {"digits-vit": "digits-flip", "math-lm": "math-chain", "llama-2-7b": "math", "vit-base": "digits"}
    return {
        f"{model} {run.label} {targets}": counted(run)
        for model, task in tasks.items()
        for targets in ("all-linear", "attention")
        for run in (spec(model, task, target_modules=targets, **settings) for settings in METHODS)
    }


def memory() -> dict[str, Any]:
    """Estimates by part, of one configuration: which one is advised may change, its memory may not."""
    from cdka import Components

    find_model, select, estimate = named("find_model"), named("select"), named("training_memory")
    found = {}
    for model, length in (("digits-vit", None), ("math-lm", 64), ("llama-2-7b", 512), ("t5-base", 128)):
        shapes = find_model(model)
        linears = select(shapes, "all-linear")
        for dtype, device in (("float32", "cpu"), ("bfloat16", "cuda"), ("nf4", "cuda")):
            for checkpointing in (False, True):
                one = estimate(
                    shapes,
                    linears,
                    Components(2, 8, 4),
                    batch_size=8,
                    length=length,
                    dtype=dtype,
                    device_type=device,
                    gradient_checkpointing=checkpointing,
                )
                found[f"{model} {dtype} {checkpointing}"] = {**vars(one), "total_bytes": one.total_bytes}
    return found


def _claim(document: dict[str, Any]) -> dict[str, Any]:
    """The numbers of ``cdka compare --json``; words may change, these may not."""
    rulings = ("a", "b", "verdict", "difference", "ci_low", "ci_high", "p", "p_holm", "n", "more_seeds")
    shown = {
        "arms": ("label", "num_params", "seeds", "mean", "sd", "ci_low", "ci_high", "pareto"),
        "verdicts": rulings,
        "trends": ("factor", "finding", "levels", "n", "slope", "ci_low", "ci_high", "p", "p_holm"),
    }
    return {part: [{key: one[key] for key in keys} for one in document[part]] for part, keys in shown.items()}


def comparisons() -> dict[str, Any]:
    asked: dict[str, list[str]] = {
        "as claimed": [],
        "loss": ["--metric", "loss"],
        "best": ["--aggregation", "best"],
        "best loss": ["--aggregation", "best", "--metric", "loss"],
        "at step 60": ["--step", "60"],
        "all pairs": ["--reference", "all-pairs"],
        "seconds": ["--metric", "seconds"],
    }
    found = {
        f"example, {name}": _claim(cdka_json("compare", str(DATA / "example-0.1.0.zip"), *more))
        for name, more in asked.items()
    }
    found["bundle of 0.1.0"] = _claim(cdka_json("compare", str(DATA / "bundle-0.1.0.zip")))
    return found


def studies() -> dict[str, Any]:
    """The findings that ship, as their files have them, and those of a home of 0.1.0, judged again from its runs."""
    import cdka

    keys = ("study", "regime", "verdict", "effect", "ci_low", "ci_high", "n")
    assets = Path(cdka.__file__).resolve().parent / "_assets"
    assets = assets if assets.is_dir() else assets.parents[1] / "assets"
    found = {
        path.stem: [
            {key: finding[key] for key in keys}
            for study in json.loads(path.read_text(encoding="utf-8"))["studies"]
            for finding in study["findings"]
        ]
        for path in sorted((assets / "studies").glob("*.json"))
    }
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(DATA / "home-0.1.0.tar.gz") as tar:
            tar.extractall(folder, filter="data")
        store = cdka.Store(folder)
        for sweep in sorted(store.sweeps(), key=lambda sweep: sweep.sweep_id):
            if "study" in sweep.plan:
                judged = named("judge")(store, sweep)
                found[f"home {sweep.plan['study']}"] = [{key: getattr(one, key) for key in keys} for one in judged]
        store.close()
    return found


def alignments() -> Any:
    """Measured on real gradients; the expectation of the plain step has another, exact formula since."""
    grid = ["--r1", "1,2", "--r2", "2,8", "--r", "1,2", "--inits", "2", "--batch-size", "32"]
    found = cdka_json("align", base(), "--task", "digits-flip", *grid)["overall"]
    return [{key: value for key, value in row.items() if key != "expected_step"} for row in found]


QUICK: tuple[Callable[[], Any], ...] = (options, num_params, memory, comparisons, studies, some_steps)
SLOW: tuple[Callable[[], Any], ...] = (training, alignments)


def machine() -> dict[str, str]:
    """What the last digit of a float32 sum depends on."""
    import numpy
    import torch

    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": f"{platform.machine()} {model} {capability}", "torch": torch.__version__, "numpy": numpy.__version__}


def numbers(parts: Sequence[Callable[[], Any]]) -> dict[str, Any]:
    """The result of each part under its name, in a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        before = os.environ.get("CDKA_HOME")
        os.environ["CDKA_HOME"] = home
        try:
            found = {part.__name__: part() for part in parts}
        finally:
            if before is None:
                del os.environ["CDKA_HOME"]
            else:
                os.environ["CDKA_HOME"] = before
    return json.loads(json.dumps({"machine": machine(), **found}))


def main(arguments: Sequence[str]) -> None:
    found = numbers(QUICK if "quick" in arguments else QUICK + SLOW)
    text = json.dumps(found, indent=1) + "\n"
    if "--write" in arguments:
        Path(arguments[arguments.index("--write") + 1]).write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
