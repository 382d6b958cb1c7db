"""``cdka bench steps``: whole training steps by method, interleaved in one process: what a user waits for. (ours)

The embedded digits-vit and math-lm on their own data, an encoder in MiniLM's sizes with random weights and tokens, and
the causal model that ``--model`` names on random tokens. CDKA (2, 8, 4) through our loop; LoRA and LoKr are PEFT's at
equal parameters, through the same loop; full fine-tuning in fp32; ``frozen`` is the base alone, forwards and back to
its inputs, which no adapter can do without. Every round runs every method once, in an order that rotates.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from cdka.bench.timing import interleaved, ratio, spread
from cdka.bench.tracing import torch_versions
from cdka.bench.train import (
    BATCH_SIZE,
    COMPONENTS,
    CPU_LENGTH,
    BenchModel,
    matched_specs,
    next_token_run,
    random_tokens,
    step,
)
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.resolve import ResolvedRun, adapted_layers, resolve_run, spec_for
from cdka.runs.spec import RunSpec
from cdka.tasks.catalogue import find_task
from cdka.terminal import print_message
from cdka.train.data.load import load_task
from cdka.train.data.objectives import Classification, Objective
from cdka.train.data.splits import AnySplit, Split
from cdka.train.device import resolve_device, resolve_dtype
from cdka.train.forward import forward, plain_model, precision
from cdka.train.load_model import Loaded, load_model
from cdka.train.member import Member
from cdka.train.methods import adapter_name, attach, trainable
from cdka.train.read_shapes import shapes_of

CDKA, LORA, LOKR, FULL, FROZEN = "CDKA 2,8,4", "LoRA", "LoKr", "full", "frozen"
METHODS = {CDKA: "cdka", LORA: "lora", LOKR: "lokr", FULL: "full"}
LIMIT_S, QUICK_LIMIT_S = 25.0, 4.0
"""Rounds of one model altogether, unless their number is given."""
MIN_ROUNDS, MAX_ROUNDS = 3, 200
REPORT_EVERY_S = 5.0
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
MINILM_BATCH, MINILM_LENGTH, MINILM_LABELS = 16, 64, 4


@dataclass(frozen=True)
class Workload:
    """One model with its data: what every method trains on. ``load`` gives the base model afresh, in a dtype."""

    title: str
    run: ResolvedRun
    data: AnySplit
    objective: Objective
    load: Callable[[torch.dtype], Loaded]
    batch: str


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The document: a row per model, in it seconds by method and ratios to LoRA with their quartiles."""
    device = resolve_device(args.device)
    made = [_embedded("digits-vit", "digits-flip", device), _embedded("math-lm", "math-chain", device)]
    made += [_encoder(device)] + ([_named(args.model, device)] if args.model else [])
    limit_s = QUICK_LIMIT_S if args.quick else LIMIT_S
    rows = []
    for number, workload in enumerate(made, start=1):
        print_message(f"{number}/{len(made)} {workload.title}: loading one model per method")
        rows.append(_measure(workload, device, args.rounds, limit_s, f"{number}/{len(made)} {workload.title}"))
    return {
        "bench": "steps",
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "date": datetime.date.today().isoformat(),
        "versions": torch_versions(),
        "rows": rows,
    }


def _embedded(model: str, task: str, device: torch.device) -> Workload:
    spec = spec_for(model, task, components=COMPONENTS, device=str(device))
    resolved = resolve_run(spec)
    data = load_task(resolved.task, spec)
    kind = data.kind or resolved.task.kind

    def load(dtype: torch.dtype) -> Loaded:
        return load_model(model, kind, dtype=dtype, num_labels=data.num_labels, label_names=data.label_names)

    return Workload(model, resolved, data.train, data.objective, load, f"{spec.batch_size} examples")


def _encoder(device: torch.device) -> Workload:
    """Six layers of width 384: the sizes of all-MiniLM-L6-v2, which need no download."""
    config = BertConfig(
        **MINILM, num_labels=MINILM_LABELS, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, config.vocab_size, (256, MINILM_LENGTH), generator=generator)
    labels = torch.randint(0, MINILM_LABELS, (256,), generator=generator)
    data = Split({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, labels, np.arange(256))

    def load(dtype: torch.dtype) -> Loaded:
        torch.manual_seed(0)
        return Loaded(BertForSequenceClassification(config).to(dtype), ("classifier",))

    with torch.device("meta"):
        shapes = shapes_of(BertForSequenceClassification(config), "an encoder of MiniLM's size", kind="encoder")
    spec = RunSpec(
        "random-encoder",
        "glue-sst2",
        components=Components(*COMPONENTS),
        batch_size=MINILM_BATCH,
        lr=1e-4,
        alpha=8.0,
        steps=10_000,
        device=str(device),
    )
    resolved = ResolvedRun(spec, shapes, find_task(spec.task), adapted_layers(spec, shapes))
    batch = f"{MINILM_BATCH} x {MINILM_LENGTH} tokens"
    return Workload(shapes.name, resolved, data, Classification(), load, batch)


def _named(name: str, device: torch.device) -> Workload:
    model = BenchModel(name, device)
    length = min(CPU_LENGTH if device.type == "cpu" else 4 * CPU_LENGTH, model.max_positions)
    data, objective = random_tokens(length, model.vocab_size)
    batch = f"{BATCH_SIZE} x {length} tokens"
    run = next_token_run(model, device, length)
    return Workload(model.title, run, data, objective, lambda dtype: Loaded(model.fresh(dtype), ()), batch)


def _measure(
    workload: Workload, device: torch.device, rounds: int | None, limit_s: float, title: str
) -> dict[str, Any]:
    """The row of one model. Raises CdkaError where the methods do not fit into memory side by side."""
    dtype = resolve_dtype("auto", device, workload.run.shapes.base_params)
    steps: dict[str, Callable[[], None]] = {}
    num_params: dict[str, int] = {}
    try:
        for name, spec in matched_specs(workload.run, METHODS).items():
            steps[name], num_params[name] = _training_step(workload, spec, device, dtype)
        steps[FROZEN], num_params[FROZEN] = _frozen_step(workload, device, dtype), 0
    except torch.OutOfMemoryError:
        raise CdkaError(
            f"the methods must fit into memory side by side: {workload.title} does not. Measure a smaller model."
        ) from None
    walls: dict[str, list[float]] = {name: [] for name in steps}
    wait = torch.cuda.synchronize if device.type == "cuda" else None
    print_message(f"{title}: warming up")
    warm_up = interleaved(steps, rounds=1, warmup=0, synchronise=wait)
    one_round_s = sum(seconds[0] for seconds in warm_up.values())
    planned = rounds or max(MIN_ROUNDS, min(MAX_ROUNDS, int(limit_s / one_round_s)))
    reports = _Reports(title, planned)
    timed = {name: _walled(one, walls[name], wait, reports if name == CDKA else None) for name, one in steps.items()}
    processor = interleaved(timed, rounds=planned, warmup=0, synchronise=wait, clock=time.process_time)
    clock = walls if device.type == "cuda" else processor
    return {
        "model": workload.title,
        "base_params": workload.run.shapes.base_params,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": workload.batch,
        "rounds": planned,
        "methods": {
            name: {
                "num_params": num_params[name],
                "wall_s": _quartiles(walls[name]),
                "processor_s": _quartiles(processor[name]),
                "over_lora": ratio(clock, name, LORA).to_dict(),
            }
            for name in steps
        },
    }


def _training_step(
    workload: Workload, spec: RunSpec, device: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], None], int]:
    """(one update of a method on the next batch, its number of trained parameters)."""
    weights = torch.float32 if spec.method == "full" else dtype
    model = attach(workload.load(weights), [spec]).to(device)
    model.train()
    name = adapter_name(0, 1)
    member = Member.start(0, spec, Path(), name, trainable(model, spec, name), workload.data)
    count = sum(p.numel() for p in member.parameters.values())
    return lambda: step(model, [member], workload.data, workload.objective, device), count


def _frozen_step(workload: Workload, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """The base's passes on the next batch, forwards and back to the output of its embeddings."""
    model = workload.load(dtype).model.to(device).requires_grad_(False)
    model.train()
    spec = workload.run.spec.with_(components=None, method="full")
    member = Member.start(0, spec, Path(), "", {"none": nn.Parameter(torch.zeros(1))}, workload.data)
    plain_model(model).get_input_embeddings().register_forward_hook(lambda *call: call[-1].requires_grad_(True))

    def passes() -> None:
        batch = workload.data.take(next(member.order))
        with precision(member, device):
            (output,) = forward(model, [member], [batch], device, workload.objective)
            output.loss.backward()

    return passes


class _Reports:
    """A line on the rounds done, at most every few seconds."""

    def __init__(self, title: str, rounds: int) -> None:
        self._title, self._rounds, self._done = title, rounds, 0
        self._began = self._reported = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._reported >= REPORT_EVERY_S:
            self._reported = now
            left = (now - self._began) / max(1, self._done) * (self._rounds - self._done)
            print_message(f"{self._title}: round {self._done} of {self._rounds}, about {left:.0f} s left")
        self._done += 1


def _walled(
    one: Callable[[], None], walls: list[float], wait: Callable[[], None] | None, report: Callable[[], None] | None
) -> Callable[[], None]:
    """``one`` with its wall time noted, whatever clock measures it from outside."""

    def timed() -> None:
        if report is not None:
            report()
        start = time.perf_counter()
        one()
        if wait is not None:
            wait()
        walls.append(time.perf_counter() - start)

    return timed


def _quartiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) == 1:
        return dict.fromkeys(("low", "median", "high"), seconds[0])
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"low": low, "median": median, "high": high}


def show(document: Mapping[str, Any]) -> None:
    """Prints a Markdown table, as it stands in the README."""
    clock = "wall time" if document["device"].startswith("cuda") else "processor time"
    print(
        f"{document['device_name']}, {document['date']}: one training step over PEFT's LoRA of equal parameters "
        f"({clock}, median [quartiles] of paired rounds), torch {document['versions']['torch']}, PEFT "
        f"{document['versions']['peft']}, {document['threads']} threads.\n"
    )
    others = (CDKA, LOKR, FULL, FROZEN)
    print(f"| model | batch | rounds | LoRA | {' | '.join(others)} |\n|---|---|---:|---:|{'---:|' * len(others)}")
    for row in document["rows"]:
        cells = [spread(row["methods"][name]["over_lora"]) for name in others]
        lora = row["methods"][LORA]["wall_s"]["median"]
        print(
            f"| {row['model']}, {row['base_params'] / 1e6:,.1f}M, {row['dtype']} | {row['batch']} | {row['rounds']} | "
            f"{_duration(lora)} | {' | '.join(cells)} |"
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
