"""``cdka bench train``: tokens per second and peak memory of whole training steps, by method, and of a sweep of 8.

Batch 4 x 512 tokens (a named model on a CPU: 4 x 128, and a sweep of 2) and AdamW, on the model that ``--model`` names
or else on a Llama with random weights: about 1B parameters in bf16 on a GPU, a tiny one in fp32 on a CPU, where that
is only good for being tested. Tokens are random.
LoRA and LoKr are PEFT's, matched to our parameters; full
fine-tuning keeps fp32 weights and computes in bf16, as our runs do. Every arm is built afresh, so that its memory is
its own. Peaks are the allocator's on a GPU; on a CPU those of the tensors that a step makes, and what exists before it.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cdka.bench.tracing import peak_bytes, torch_versions
from cdka.cost.adapter import count_params
from cdka.models.locate import locate
from cdka.runs.resolve import ResolvedRun, adapted_layers
from cdka.runs.spec import RunSpec
from cdka.sweep.match import match
from cdka.tasks.catalogue import find_task
from cdka.terminal import print_message
from cdka.train.data.objectives import NextToken, Objective
from cdka.train.data.splits import AnySplit, Ragged, TextSplit
from cdka.train.device import peak_memory_bytes, resolve_device, resolve_dtype
from cdka.train.forward import forward, precision, routing
from cdka.train.load_model import Loaded, load_model
from cdka.train.member import Member
from cdka.train.methods import adapter_name, attach, trainable
from cdka.train.read_shapes import load_config, shapes_of

BATCH_SIZE, LENGTH, CPU_LENGTH, SWEEP = 4, 512, 128, 8
ARM_LIMIT_S, MIN_ROUNDS = 20.0, 3
"""A named model on a CPU is measured for so long per arm, but on so many steps at least: minutes altogether."""
COMPONENTS = (2, 8, 4)
ARMS = {"CDKA 2,8,4": "cdka", "LoRA (PEFT)": "lora", "LoKr (PEFT)": "lokr", "full": "full"}
MODELS = {
    "cuda": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32_000,
    },
    "cpu": {
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    },
}
"""The model trained on each kind of device; on a GPU the dimensions of TinyLlama 1.1B."""
WARM_UP = 3
REPORT_EVERY_S = 2.0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The document: one row per arm, the sweep of 8 in one process last."""
    device = resolve_device(args.device)
    model = BenchModel(getattr(args, "model", None), device)
    quick, slow = args.quick and device.type == "cpu", device.type == "cpu" and model.name is not None
    rounds = args.rounds or (5 if args.quick else 20)
    limit_s = math.inf if args.rounds or not slow else ARM_LIMIT_S
    length = min(64 if quick else CPU_LENGTH if slow else LENGTH, model.max_positions)
    size = 2 if slow else SWEEP
    specs = matched_specs(next_token_run(model, device, length), ARMS)
    arms = {name: [spec] for name, spec in specs.items()}
    arms[f"{size} runs of CDKA 2,8,4, packed"] = [specs["CDKA 2,8,4"].with_(seed=seed) for seed in range(size)]
    rows = []
    for number, (name, arm) in enumerate(arms.items(), start=1):
        title = f"{number}/{len(arms)} {name}"
        found = _measure(model, arm, device, rounds, length, title, limit_s)
        rows.append({"arm": name, "runs": len(arm), **found})
    alone = rows[0]["tokens_per_s"]
    return {
        "bench": "train",
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "model": model.title,
        "base_params": model.shapes.base_params,
        "dtype": str(resolve_dtype("auto", device, model.shapes.base_params)).removeprefix("torch."),
        "batch_size": BATCH_SIZE,
        "length": length,
        "rounds": rounds,
        "clock": "wall" if device.type == "cuda" else "processor time of the process",
        "date": datetime.date.today().isoformat(),
        "versions": torch_versions(),
        "rows": [{**row, "speed_over_cdka": row["tokens_per_s"] / alone} for row in rows],
    }


class BenchModel:
    """The model that every arm gets afresh: a saved one, or random weights in the sizes for the device."""

    def __init__(self, name: str | None, device: torch.device) -> None:
        self.name, self._device = name, device
        if name is None:
            self._config = LlamaConfig(
                **MODELS[device.type], max_position_embeddings=LENGTH, pad_token_id=0, tie_word_embeddings=False
            )
        else:
            print_message(f"loading {name} ...")
            self._config = load_config(locate(name))
        text = self._config.get_text_config()
        self.vocab_size: int = text.vocab_size
        self.max_positions: int = getattr(text, "max_position_embeddings", None) or LENGTH
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(self._config)
        self.shapes = shapes_of(empty, name or "random-llama", kind="causal-lm")

    @property
    def title(self) -> str:
        """The model's name, without the folders before it."""
        return Path(self.name).name if self.name else "a random-weight Llama"

    def fresh(self, dtype: torch.dtype) -> nn.Module:
        """The model with its weights, on the device."""
        if self.name is not None:
            return load_model(self.name, "causal-lm", dtype=dtype).model.to(self._device)
        torch.manual_seed(0)
        return LlamaForCausalLM(self._config).to(self._device, dtype)


def next_token_run(model: BenchModel, device: torch.device, length: int) -> ResolvedRun:
    """A run of CDKA on random tokens."""
    spec = RunSpec(
        "random-llama",
        "math",
        components=COMPONENTS,
        batch_size=BATCH_SIZE,
        max_length=length,
        lr=1e-5,
        alpha=1.0,
        device=str(device),
        steps=1000,
    )
    return ResolvedRun(spec, model.shapes, find_task(spec.task), adapted_layers(spec, model.shapes))


def matched_specs(run: ResolvedRun, methods: Mapping[str, str]) -> dict[str, RunSpec]:
    """The specs by the names of their methods, matched to the parameters of CDKA in ``run``."""
    budget = count_params(run)
    return {
        name: run.spec if method == "cdka" else run.spec.with_(components=None, **match(method, budget, run).settings)
        for name, method in methods.items()
    }


def random_tokens(length: int, vocab_size: int) -> tuple[TextSplit, NextToken]:
    """(64 examples of random tokens, all judged but the first, their objective)."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, vocab_size - 4, (64, length), generator=generator).tolist()
    data = TextSplit(
        kind="causal-lm",
        source=Ragged.of([row[:1] for row in tokens]),
        target=Ragged.of([row[1:] for row in tokens]),
        ids=np.arange(64),
        pad_id=0,
    )
    return data, NextToken(1)


def _measure(
    source: BenchModel,
    specs: list[RunSpec],
    device: torch.device,
    rounds: int,
    length: int,
    title: str,
    limit_s: float,
) -> dict[str, Any]:
    """Tokens per second over all runs of a pack (median step), peak memory and trained parameters.

    ``title`` opens the lines of progress: one for each step, at most every two seconds.
    """
    print_message(f"{title}: loading")
    _clean(device)
    half = resolve_dtype("auto", device, source.shapes.base_params)
    dtype = torch.float32 if specs[0].method == "full" else half
    model = attach(Loaded(source.fresh(dtype), ()), specs).to(device)
    model.train()
    data, objective = random_tokens(length, source.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        members = []
        for index, spec in enumerate(specs):
            name = adapter_name(index, len(specs))
            members.append(Member.start(index, spec, Path(folder), name, trainable(model, spec, name), data))
    print_message(f"{title}: warming up")
    for _ in range(WARM_UP if math.isinf(limit_s) else 1):
        step(model, members, data, objective, device)
    seconds, now = [], time.perf_counter if device.type == "cuda" else time.process_time
    began = reported_at = time.monotonic()
    for done in range(rounds):
        if done >= MIN_ROUNDS and time.monotonic() - began > limit_s:
            break
        if time.monotonic() - reported_at >= REPORT_EVERY_S:
            reported_at = time.monotonic()
            print_message(f"{title}: step {done}/{rounds}, {statistics.median(seconds or [0.0]):.2f} s each")
        _wait(device)
        start = now()
        step(model, members, data, objective, device)
        _wait(device)
        seconds.append(now() - start)
    if device.type == "cuda":
        peak = peak_memory_bytes(device)
    else:
        peak = _held_bytes(model, members) + peak_bytes(lambda: step(model, members, data, objective, device))
    tokens = len(specs) * BATCH_SIZE * length
    return {
        "num_params": sum(p.numel() for p in members[0].parameters.values()),
        "rounds": len(seconds),
        "step_s": statistics.median(seconds),
        "tokens_per_s": tokens / statistics.median(seconds),
        "peak_bytes": peak,
    }


def step(model: nn.Module, members: list[Member], data: AnySplit, objective: Objective, device: torch.device) -> None:
    """One update of every member, each on its next batch of ``data``."""
    batches = [data.take(next(member.order)) for member in members]
    with routing(model, members), precision(members[0], device):
        outputs = forward(model, members, batches, device, objective)
        torch.stack([output.loss for output in outputs]).sum().backward()
    for member in members:
        member.update()


def _held_bytes(model: nn.Module, members: list[Member]) -> int:
    held = [*model.parameters(), *model.buffers()]
    held += [value for member in members for state in member.optimizer.state.values() for value in state.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in held if torch.is_tensor(tensor))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clean(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def show(document: dict[str, Any]) -> None:
    """Prints a Markdown table, as it stands in the README."""
    print(
        f"{document['device_name']}, {document['date']}: {document['model']}, {document['base_params'] / 1e6:,.1f}M "
        f"parameters, in {document['dtype']}, batch {document['batch_size']} x {document['length']}, torch "
        f"{document['versions']['torch']}, PEFT {document['versions']['peft']}, median of {_rounds(document)} steps "
        f"({document['clock']}).\n"
    )
    print("| method | trained parameters | tokens/s | relative | peak memory |\n|---|---:|---:|---:|---:|")
    for row in document["rows"]:
        print(
            f"| {row['arm']} | {row['num_params']:,} | {row['tokens_per_s']:,.0f} | {row['speed_over_cdka']:.2f} | "
            f"{_size(row['peak_bytes'])} |"
        )


def _rounds(document: dict[str, Any]) -> str:
    counts = sorted({row["rounds"] for row in document["rows"]})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
