"""``cdka bench peft-comparison``: our runs as result files in the format of PEFT's ``method_comparison``.

Every method trains on the same model and task with one budget of parameters, and each of its runs becomes one JSON file
as ``method_comparison/MetaMathQA/results`` holds them, so that PEFT's own scripts read both alike. Forgetting is
PEFT's: the rise of the mean loss per token on what ``--retain`` names, judged before and after the run. Where the
format has no place for a fact, ``run_info.train_config`` has a key of its own: ``task``, ``retain``, ``method``.

On a CPU there is no accelerator: the memory fields are then the resident memory of this process above that before the
run, and ``system_info.accelerator`` says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from cdka.cost.adapter import count_params
from cdka.errors import CdkaError
from cdka.runs import events
from cdka.runs.metrics import EVAL_ACCURACY, TEST_ACCURACY
from cdka.runs.resolve import ResolvedRun, resolve_run, spec_for
from cdka.runs.spec import RunSpec
from cdka.sweep.match import match
from cdka.terminal import print_message
from cdka.train.loop import train

MODEL, TASK, RETAIN = "math-lm", "math-chain", "math"
"""Without flags: the embedded language model, which can add, learns products; forgetting is how much worse it adds."""
PACKAGES = ("transformers", "peft", "datasets", "bitsandbytes", "torch")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains every arm with every seed and writes a file for each; the document has a row per file.

    Raises CdkaError without anything to retain, which forgetting is measured on, and where a run fails.
    """
    model, task = getattr(args, "model", None) or MODEL, getattr(args, "task", None) or TASK
    retain = getattr(args, "retain", None) or (RETAIN if (model, task) == (MODEL, TASK) else None)
    if retain is None:
        raise CdkaError(
            "forgetting is measured on what the model should keep: got no --retain. Name a task or a text file of "
            "general text, such as --retain wiki.txt."
        )
    out = Path(getattr(args, "out", None) or "peft-comparison")
    out.mkdir(parents=True, exist_ok=True)
    steps = getattr(args, "steps", None) or (6 if args.quick else None)
    base = resolve_run(spec_for(model, task, retain=retain, steps=steps, device=args.device))
    if args.quick:
        base = base.with_(eval_every=base.spec.steps // 2 or 1, eval_examples=32, generate_examples=8, test_examples=16)
    rows = []
    for arm in _arms(base, (getattr(args, "against", None) or "lora").split(",")):
        for seed in range(getattr(args, "seeds", None) or 1):
            one = arm.with_(seed=seed)
            print_message(f"{experiment_name(one.spec)}: {one.spec.steps} steps on {task}, seed {seed}")
            result = measure(one)
            path = out / (result["run_info"]["experiment_name"].replace("/", "--") + ".json")
            path.write_text(json.dumps(result, indent=2), encoding="utf-8")
            rows.append(_row(result, path))
    return {"bench": "peft-comparison", "model": model, "task": task, "retain": retain, "rows": rows}


def _arms(base: ResolvedRun, against: Sequence[str]) -> list[ResolvedRun]:
    """The task's CDKA, then each baseline with the parameters of it."""
    budget = count_params(base)
    return [base, *(base.with_(**{"components": None, **match(name, budget, base).settings}) for name in against)]


def experiment_name(spec: RunSpec) -> str:
    """``method/model-settings``, as the folders of PEFT's experiments are named."""
    c = spec.components
    settings = f"r1_{c.r1}-r2_{c.r2}-r_{c.r}" if c else f"rank{spec.rank}" if spec.rank else "default"
    method = "full-finetuning" if spec.method == "full" else spec.method
    again = f"-seed{spec.seed}" if spec.seed else ""
    return f"{method}/{Path(spec.model).name}-{settings}{again}"


@dataclass
class _Recorder:
    """The sums of a run's events, in the fields of the format."""

    memory: _Memory
    start: events.Start | None = None
    final: events.Final | None = None
    losses: list[float] = field(default_factory=list)
    marks: list[tuple[int, float, int, int]] = field(default_factory=list)
    """(allocated, seconds, samples, tokens) at each step."""
    reserved: list[int] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    adapter: Path | None = None
    began: float = 0.0
    looked: float = 0.0
    train_s: float = 0.0
    first: int = 0
    """The first step since the last look."""

    def take(self, event: events.Event) -> None:
        now = time.perf_counter()
        if isinstance(event, events.Start):
            self.start, self.began, self.looked = event, now, now
        elif isinstance(event, events.Step):
            allocated, reserved = self.memory.now()
            self.losses.append(event.loss or 0.0)
            self.marks.append((allocated, now, event.samples or 0, event.tokens or 0))
            self.reserved.append(reserved)
        elif isinstance(event, events.Evaluated) and not self.marks:
            self.looked = now  # the look before the first step
        elif isinstance(event, events.Evaluated) and len(self.marks) > self.first:
            self._look(event, now)
        elif isinstance(event, events.Saved) and not event.best:
            self.adapter = Path(event.directory)
        elif isinstance(event, events.Final):
            self.final = event
        elif isinstance(event, events.Failed):
            raise CdkaError(event.cause)

    def _look(self, event: events.Evaluated, now: float) -> None:
        since = slice(self.first, None)
        marks, reserved = self.marks[since], self.reserved[since]
        tokens = marks[-1][3] - (self.marks[self.first - 1][3] if self.first else 0)
        seconds = marks[-1][1] - self.looked
        self.train_s += seconds
        self.metrics.append(
            {
                "step": event.step,
                "valid accuracy": event.metrics.get(EVAL_ACCURACY),
                "train loss": statistics.fmean(self.losses[since]),
                "train samples": marks[-1][2],
                "train time": seconds,
                "eval time": now - marks[-1][1],
                "tokens / sec": tokens / seconds,
                "mem allocated avg": statistics.fmean(mark[0] for mark in marks),
                "mem reserved avg": statistics.fmean(reserved),
                "elapsed time": now - self.began,
            }
        )
        self.first, self.looked = len(self.marks), now


class _Memory:
    """The memory of a run: the allocator's on a GPU, else the resident memory of the process, above that before it."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
        self.before = (0, 0)
        self.before = self.now()

    def now(self) -> tuple[int, int]:
        """(allocated, reserved) in bytes."""
        if self.on_gpu:
            found = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        else:
            resident = psutil.Process().memory_info().rss
            found = resident, resident
        return max(0, found[0] - self.before[0]), max(0, found[1] - self.before[1])

    @property
    def device_name(self) -> str:
        """The name of the accelerator."""
        return torch.cuda.get_device_name() if self.on_gpu else "none: CPU, resident memory of the process"


def measure(one: ResolvedRun) -> dict[str, Any]:
    """One run as a document of the format. Raises CdkaError where the run fails."""
    created, began = datetime.datetime.now(datetime.UTC), time.perf_counter()
    recorder = _Recorder(_Memory(one.spec.device))
    with tempfile.TemporaryDirectory() as folder:
        for _, event in train([one], [Path(folder)]):
            recorder.take(event)
        config = _adapter_config(recorder.adapter, one.spec.model)
        size = sum(file.stat().st_size for file in recorder.adapter.glob("*.safetensors")) if recorder.adapter else 0
    start, final = recorder.start, recorder.final
    if start is None or final is None:
        raise CdkaError(f"the run {one.spec.label} ended before it was judged. Run it again.")
    recorder.metrics.append(_last(recorder, final))
    total = start.num_params if one.spec.method == "full" else start.num_params + (start.base_params or 0)
    reserved = sorted(recorder.reserved)
    return {
        "run_info": {
            "created_at": created.isoformat(timespec="seconds"),
            "total_time": time.perf_counter() - began,
            "experiment_name": experiment_name(one.spec),
            "peft_branch": f"cdka-studio {version('cdka-studio')}",
            "train_config": train_config(one.spec, start),
            "peft_config": config,
            "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": int(statistics.fmean(reserved)),
            "accelerator_memory_max": reserved[-1],
            "accelerator_memory_reserved_99th": reserved[int(0.99 * (len(reserved) - 1))],
            "train_time": recorder.train_s,
            "file_size": size,
            "num_trainable_params": start.num_params,
            "num_total_params": total,
            "status": "success",
            "metrics": recorder.metrics,
        },
        "meta_info": {
            "model_info": {"sha": None, "created_at": None},
            "dataset_info": {name: {"sha": None, "created_at": None} for name in (one.spec.task, one.spec.retain)},
            "package_info": _packages(),
            "system_info": {
                "system": platform.system(),
                "release": platform.release(),
                "version": platform.version(),
                "machine": platform.machine(),
                "processor": platform.processor(),
                "accelerator": recorder.memory.device_name,
            },
            "pytorch_info": torch.__config__.show(),
        },
    }


def _last(recorder: _Recorder, final: events.Final) -> dict[str, Any]:
    """The entry after the last step: the test split, and forgetting."""
    after, before = (final.metrics[f"retained/{when}_loss"] for when in ("after", "before"))
    return {
        "step": final.metrics["steps_done"],
        "test accuracy": final.metrics.get(TEST_ACCURACY),
        "train loss": recorder.metrics[-1]["train loss"],
        "train samples": recorder.marks[-1][2],
        "train total tokens": recorder.marks[-1][3],
        "forgetting": after - before,
    }


def train_config(spec: RunSpec, start: events.Start) -> dict[str, Any]:
    """The run's settings under PEFT's names; what PEFT has no name for stands at the end."""
    return {
        "model_id": spec.model,
        "dtype": start.dtype,
        "max_seq_length": start.max_length,
        "batch_size": spec.batch_size,
        "batch_size_eval": spec.batch_size,
        "max_steps": spec.steps,
        "eval_steps": spec.eval_every,
        "compile": False,
        "use_gc": spec.gradient_checkpointing,
        "query_template": "{query}",
        "seed": spec.seed,
        "grad_norm_clip": spec.max_grad_norm,
        "optimizer_type": "AdamW",
        "optimizer_kwargs": {"lr": spec.lr, "weight_decay": spec.weight_decay},
        "lr_scheduler": "cosine" if spec.schedule == "cosine" else None,
        "use_amp": False,
        "autocast_adapter_dtype": True,
        "generation_kwargs": {},
        "attn_implementation": None,
        "init_kv_cache_prefix": None,
        "task": spec.task,
        "retain": spec.retain,
        "method": spec.label,
        "warmup_ratio": spec.warmup_ratio,
    }


def _adapter_config(adapter: Path | None, model: str) -> dict[str, Any] | None:
    """The saved ``adapter_config.json`` with the model's name in place of its folder; None for full fine-tuning."""
    path = None if adapter is None else adapter / "adapter_config.json"
    if path is None or not path.is_file():
        return None
    return {**json.loads(path.read_text(encoding="utf-8")), "base_model_name_or_path": model}


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[f"{name}-version"] = version(name)
        except PackageNotFoundError:
            found[f"{name}-version"] = None
        found[f"{name}-commit-hash"] = None
    return found


def _row(result: dict[str, Any], path: Path) -> dict[str, Any]:
    last, info = result["train_info"]["metrics"][-1], result["train_info"]
    return {
        "experiment": result["run_info"]["experiment_name"],
        "test_accuracy": last["test accuracy"],
        "forgetting": last["forgetting"],
        "num_params": info["num_trainable_params"],
        "train_time_s": info["train_time"],
        "file": str(path),
    }


def show(document: dict[str, Any]) -> None:
    """The rows as a table; the files are the result."""
    print(f"{document['model']} on {document['task']}; forgetting: rise of the loss per token on {document['retain']}")
    for row in document["rows"]:
        accuracy = "-" if row["test_accuracy"] is None else f"{row['test_accuracy']:.3f}"
        print(
            f"{row['experiment']}: test accuracy {accuracy}, forgetting {row['forgetting']:+.4f}, "
            f"{row['num_params']:,} parameters, {row['train_time_s']:.1f} s of training: {row['file']}"
        )
