"""Fill a Store with made-up runs, through the events a worker would send: for tests and for trying the page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from compare_synthetic import IN, OUT, params
from safetensors.numpy import save_file

from cdka.runs import events, job_queue
from cdka.runs.job_queue import Batch
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

VERSIONS = {"torch": "2.13.0", "peft": "0.21.2", "transformers": "5.23.0", "cdka": "0.1.0"}
LAYERS = ("vit.encoder.layer.0.attention.attention.query", "vit.encoder.layer.0.intermediate.dense")


def accuracy_of(spec: RunSpec) -> float:
    """Falls with r1, rises with r2 and r; LoRA in between."""
    if spec.components is None:
        return 0.93 if spec.method == "full" else 0.735
    r1, r2, r = spec.components.as_tuple()
    return min(0.94, 0.62 - 0.045 * math.log2(r1) + 0.04 * math.log2(r2) + 0.05 * math.log2(r))


def sent_by(spec: RunSpec, rng: np.random.Generator, shared: float, *, points: int, end: str) -> list[events.Event]:
    """What a worker would send: ``end`` is done, failed or running (half way)."""
    top = min(0.995, accuracy_of(spec) + shared + rng.normal(0, 0.012))
    out = [
        events.Phase(phase="training"),
        events.Start(
            num_params=params(spec.components, spec.rank),
            total_steps=spec.steps,
            base_params=302_000,
            device="cpu",
            dtype="float32",
            versions=VERSIONS,
        ),
    ]
    every = max(1, spec.steps // points)
    last = spec.steps if end == "done" else spec.steps // 2
    best = 0.0
    for step in range(every, last + 1, every):
        part = 1 - math.exp(-4 * step / spec.steps)
        accuracy = max(0.0, 0.1 + (top - 0.1) * part + rng.normal(0, 0.01))
        best = max(best, accuracy)
        place = {"step": step, "samples": step * spec.batch_size, "elapsed_s": 0.03 * step * (1 + 0.1 * rng.random())}
        out.append(events.Step(loss=2.3 - 1.9 * part, lr=spec.lr, grad_norm=1.0, **place))
        metrics = {"eval/accuracy": accuracy, "eval/loss": 2.3 - 2 * part * top}
        out.append(events.Evaluated(metrics=metrics, examples=300, **place))
    if end == "failed":
        return [*out, events.Failed(cause="loss is not a number at step 60", step=last)]
    if end != "done":
        return out
    label = np.arange(200) % 10
    right = rng.random(200) < top
    predicted = np.where(right, label, (label + 1) % 10)
    out.append(events.Memory(peak_bytes=180_000_000 + params(spec.components, spec.rank) * 16))
    metrics = {
        "test/accuracy": float(right.mean()),
        "eval/best_accuracy": best,
        "best_step": last,
        "eval/accuracy": accuracy,
        "eval/loss": 2.3 - 2 * part * top,
        "train/loss": 0.4,
        "test/examples": 200,
        "steps_done": spec.steps,
    }
    predictions = {
        "split": "test",
        "example": list(range(1200, 1400)),
        "label": label.tolist(),
        "predicted": predicted.tolist(),
    }
    out.append(events.Final(metrics=metrics, predictions=predictions))
    return out


def write_adapter(directory: Path, spec: RunSpec, rng: np.random.Generator) -> None:
    """An adapter as PEFT would save it, with pairwise distinct layer dimensions."""
    import json

    directory.mkdir(parents=True, exist_ok=True)
    tensors, config = {}, {"peft_type": spec.method.upper(), "task_type": None}
    for layer in LAYERS:
        if spec.components is not None:
            a, b = spec.components.shapes(OUT, IN)
            tensors[f"base_model.model.{layer}.cdka_A"] = rng.normal(0, 0.05, a).astype(np.float32)
            tensors[f"base_model.model.{layer}.cdka_B"] = rng.normal(0, 0.05, b).astype(np.float32)
        elif spec.rank is not None:
            tensors[f"base_model.model.{layer}.lora_A.weight"] = rng.normal(0, 0.05, (spec.rank, IN)).astype(np.float32)
            tensors[f"base_model.model.{layer}.lora_B.weight"] = rng.normal(0, 0.05, (OUT, spec.rank)).astype(
                np.float32
            )
    if spec.components is not None:
        config |= dict(zip(("r1", "r2", "r"), spec.components.as_tuple(), strict=True)) | {"alpha": spec.alpha}
    else:
        config |= {"r": spec.rank, "lora_alpha": spec.alpha, "use_rslora": True}
    save_file(tensors, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps(config))


def fill(
    store: Store, name: str, specs, *, ends=None, points: int = 10, adapters: bool = True, rng_seed: int = 0
) -> str:
    """The id of a new sweep of made-up runs; ``ends`` maps positions to failed, running or queued (default done)."""
    rng = np.random.default_rng(rng_seed)
    shared = {seed: rng.normal(0, 0.02) for seed in sorted({spec.seed for spec in specs})}
    assert not store.runs(status="queued"), "the queue must be empty: its runs would be taken for ours"
    started = [i for i in range(len(specs)) if (ends or {}).get(i) != "queued"]
    sweep_id = store.create_sweep(name, {"name": name}, [specs[i] for i in started])
    for i in started:
        job = job_queue.reserve(store.database, lambda _: "cpu:0")
        ((run_id, attempt),) = job.runs
        assert job_queue.claim(store.database, run_id, attempt, (1, "0", "made-up"))
        end = (ends or {}).get(i, "done")
        sent = sent_by(specs[i], rng, shared[specs[i].seed], points=points, end=end)
        job_queue.record_events(store.database, [Batch(run_id, attempt, 0, sent)], worked_s=0.031 * specs[i].steps)
        if end == "done" and adapters and specs[i].method != "full":
            write_adapter(store.run(run_id).adapter_dir, specs[i], rng)
    waiting = [spec for i, spec in enumerate(specs) if (ends or {}).get(i) == "queued"]
    if waiting:
        store.submit(waiting, sweep_id=sweep_id)
    return sweep_id
