"""``cdka bench train``: tokens per second and peak memory of whole training steps, by method, and of a sweep of 8.

A Llama with random weights, batch 4 x 512 tokens, AdamW: about 1B parameters in bf16 on a GPU, a tiny one in fp32 on a
CPU, where the command is only good for being tested. LoRA and LoKr are PEFT's, matched to our parameters; full
fine-tuning keeps fp32 weights and computes in bf16, as our runs do. Every arm is built afresh, so that its memory is
its own. Peaks are the allocator's on a GPU; on a CPU those of the tensors that a step makes, and what exists before it.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from cdka.bench.tracing import peak_bytes, torch_versions
from cdka.runs.spec import RunSpec
from cdka.sweep.match import match
from cdka.terminal import print_message
from cdka.train.data.objectives import NextToken
from cdka.train.data.ragged import Ragged
from cdka.train.data.splits import TextSplit
from cdka.train.device import peak_memory_bytes, resolve_device, resolve_dtype
from cdka.train.forward import forward, precision, routing
from cdka.train.introspect import shapes_of
from cdka.train.load_model import Loaded
from cdka.train.member import Member
from cdka.train.methods import adapter_name, attach, trainable

BATCH_SIZE, LENGTH, SWEEP = 4, 512, 8
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


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The document: one row per arm, the sweep of 8 in one process last."""
    device = resolve_device(args.device)
    rounds = args.rounds or (5 if args.quick else 20)
    length = 64 if args.quick and device.type == "cpu" else LENGTH
    specs = _specs(device, length)
    rows = []
    for name, spec in specs.items():
        print_message(f"{name} ...")
        rows.append({"arm": name, "runs": 1, **_measure([spec], device, rounds, length)})
    print_message(f"a sweep of {SWEEP} ...")
    sweep = [specs["CDKA 2,8,4"].with_(seed=seed) for seed in range(SWEEP)]
    rows.append(
        {"arm": f"{SWEEP} runs of CDKA 2,8,4, packed", "runs": SWEEP, **_measure(sweep, device, rounds, length)}
    )
    alone = rows[0]["tokens_per_s"]
    return {
        "bench": "train",
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "base_params": _model_params(device),
        "dtype": str(resolve_dtype("auto", device)).removeprefix("torch."),
        "batch_size": BATCH_SIZE,
        "length": length,
        "rounds": rounds,
        "clock": "wall" if device.type == "cuda" else "processor time of the process",
        "date": datetime.date.today().isoformat(),
        "versions": torch_versions(),
        "rows": [{**row, "speed_over_cdka": row["tokens_per_s"] / alone} for row in rows],
    }


def _config(device: torch.device) -> LlamaConfig:
    return LlamaConfig(**MODELS[device.type], max_position_embeddings=LENGTH, pad_token_id=0, tie_word_embeddings=False)


def _model_params(device: torch.device) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in LlamaForCausalLM(_config(device)).parameters())


def _specs(device: torch.device, length: int) -> dict[str, RunSpec]:
    """The arms, LoRA and LoKr matched to the parameters of CDKA."""
    with torch.device("meta"):
        shapes = shapes_of(LlamaForCausalLM(_config(device)), "random-llama", family="Llama", kind="causal-lm")
    base = RunSpec(
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
    budget = sum(
        s.count * base.components.num_params(s.out_features, s.in_features)
        for s in shapes.linears
        if s.role in ("attention", "mlp")
    )
    found = {}
    for name, method in ARMS.items():
        settings = {} if method == "cdka" else match(method, budget, base, shapes).settings
        found[name] = base if method == "cdka" else base.with_(**{"components": None, **settings})
    return found


def _data(length: int) -> TextSplit:
    """Random tokens, all judged but the first."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, 500, (64, length), generator=generator).tolist()
    return TextSplit(
        kind="causal-lm",
        source=Ragged.of([row[:1] for row in tokens]),
        target=Ragged.of([row[1:] for row in tokens]),
        ids=np.arange(64),
        pad_id=0,
    )


def _measure(specs: list[RunSpec], device: torch.device, rounds: int, length: int) -> dict[str, Any]:
    """Tokens per second over all runs of a pack (median step), peak memory and trained parameters."""
    _clean(device)
    dtype = torch.float32 if specs[0].method == "full" else resolve_dtype("auto", device)
    torch.manual_seed(0)
    base = LlamaForCausalLM(_config(device)).to(device, dtype)
    model = attach(Loaded(base, ()), specs).to(device)
    model.train()
    data, objective = _data(length), NextToken(1, None)
    with tempfile.TemporaryDirectory() as folder:
        members = []
        for index, spec in enumerate(specs):
            name = adapter_name(index, len(specs))
            members.append(Member.start(index, spec, Path(folder), name, trainable(model, spec, name), data))
    for _ in range(WARM_UP):
        _step(model, members, data, objective, device)
    seconds, now = [], time.perf_counter if device.type == "cuda" else time.process_time
    for _ in range(rounds):
        _wait(device)
        start = now()
        _step(model, members, data, objective, device)
        _wait(device)
        seconds.append(now() - start)
    if device.type == "cuda":
        peak = peak_memory_bytes(device)
    else:
        peak = _held_bytes(model, members) + peak_bytes(lambda: _step(model, members, data, objective, device))
    tokens = len(specs) * BATCH_SIZE * length
    return {
        "num_params": sum(p.numel() for p in members[0].parameters.values()),
        "step_s": statistics.median(seconds),
        "tokens_per_s": tokens / statistics.median(seconds),
        "peak_bytes": peak,
    }


def _step(model: nn.Module, members: list[Member], data: TextSplit, objective: NextToken, device: torch.device) -> None:
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
        f"{document['device_name']}, {document['date']}: a random-weight Llama, {document['base_params'] / 1e6:,.1f}M "
        f"parameters, in {document['dtype']}, batch {document['batch_size']} x {document['length']}, torch "
        f"{document['versions']['torch']}, PEFT {document['versions']['peft']}, median of {document['rounds']} steps "
        f"({document['clock']}).\n"
    )
    print("| method | trained parameters | tokens/s | relative | peak memory |\n|---|---:|---:|---:|---:|")
    for row in document["rows"]:
        print(
            f"| {row['arm']} | {row['num_params']:,} | {row['tokens_per_s']:,.0f} | {row['speed_over_cdka']:.2f} | "
            f"{_size(row['peak_bytes'])} |"
        )


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
