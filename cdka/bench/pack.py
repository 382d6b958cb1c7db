"""``cdka bench pack``: K runs trained together against the same K runs taking turns on the resident base.

One update of every run is timed in every way that ``cdka.train.pack_schedule`` tries, interleaved: all runs in one
pass, half of them, one at a time. The loop keeps the fastest, so its speed-up is never below 1. K = 8, on a CPU the
embedded models and on a GPU random Llamas of 0.1B and 1B at 512 tokens per run too. ``--full`` adds the other K, with
K = 1 as the control, the 0.1B Llama on a CPU, and as many rounds as a cell wants.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from cdka.bench.timing import announced, interleaved, ratio, spread
from cdka.paths import assets_dir
from cdka.runs.resolve import spec_for
from cdka.runs.spec import RunSpec
from cdka.tasks.catalogue import find_task
from cdka.terminal import print_message, print_table
from cdka.train.data.load import load_task
from cdka.train.data.objectives import NextToken
from cdka.train.data.splits import Split
from cdka.train.device import resolve_device, resolve_dtype
from cdka.train.forward import forward, routing
from cdka.train.load_model import Loaded, load_model
from cdka.train.member import Member
from cdka.train.methods import adapter_name, attach, trainable
from cdka.train.pack_schedule import ways

SIZES = (1, 2, 4, 8, 16)
CELL_LIMIT_S = 12.0
"""The rounds of one cell take about so long at most, unless their number is given."""
COMPONENTS = ("2,8,4", "1,8,2", "2,2,8", "4,16,2", "2,8,1", "1,4,1", "2,4,2", "4,4,1")
MIXES = {"seeds": COMPONENTS[:1], "4 configurations": COMPONENTS[:4], "all different": COMPONENTS}
"""Contents of a pack: seeds of one configuration, four configurations in turn, or all configurations different."""
TARGETS = {
    ("digits-vit, 16 samples", 8, "cpu"): 2.0,
    ("digits-vit, 64 samples", 8, "cpu"): 1.4,
    ("llama 0.1B, 512 tokens", 8, "cuda"): 5.0,
    ("llama 1B, 512 tokens", 8, "cuda"): 5.0,
}
_LLAMA = {
    "llama 0.1B, 512 tokens": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "heads": 12},
    "llama 1B, 512 tokens": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "heads": 16},
}
_LENGTH, _VOCABULARY = 512, 32_000


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Speed-ups (separate over packed, median with quartiles) by case and K."""
    device = resolve_device(args.device)
    rounds = args.rounds or (7 if args.quick else 20)
    limit_s = None if args.full or args.rounds else CELL_LIMIT_S
    cells = [
        (f"{name}, {size} runs, {mix}", (name, build, mix, size))
        for name, build in _cases(device, args.full).items()
        for mix in MIXES
        for size in (SIZES if args.full else (8,))
    ]
    rows = []
    for name, build, mix, size in announced(cells):
        measured = _measure(build, size, MIXES[mix], device, rounds, limit_s)
        target = TARGETS.get((name, size, device.type))
        rows.append({"case": name, "mix": mix, "size": size, "target": target, **measured})
        print_message(f"  separate / packed {spread(measured['speedup'])}")
    return {"device": _name(device), "threads": torch.get_num_threads(), "rows": rows}


def show(document: dict[str, Any]) -> None:
    """The document as a table: above 1, packing is faster."""
    print(f"{document['device']}, {document['threads']} threads; separate / packed, median and quartiles of rounds")
    print_table(
        ["case", "runs", "K", "rounds", "speed-up", "target", "per pass", "packed ms"],
        [
            [
                r["case"],
                r["mix"],
                r["size"],
                r["speedup"]["rounds"],
                spread(r["speedup"]),
                "" if r["target"] is None else f">= {r['target']:g}",
                r["share"],
                f"{1e3 * r['packed_s']:.1f}",
            ]
            for r in document["rows"]
        ],
    )


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _cases(device: torch.device, full: bool) -> dict[str, Callable[[], tuple[Loaded, RunSpec, Split, Any]]]:
    cases: dict[str, Callable] = {}
    for batch in (16, 64):
        cases[f"digits-vit, {batch} samples"] = lambda batch=batch: _embedded("digits-vit", "digits-flip", batch)
    if (assets_dir() / "math-lm" / "config.json").is_file():
        cases["math-lm, 16 samples"] = lambda: _embedded("math-lm", "math-chain", 16)
    wanted = list(_LLAMA) if device.type == "cuda" else list(_LLAMA)[:1] if full else []
    for name in wanted:
        cases[name] = lambda name=name: _random_llama(_LLAMA[name], device)
    return cases


def _embedded(model: str, task: str, batch: int) -> tuple[Loaded, RunSpec, Any, Any]:
    spec = spec_for(model, task, batch_size=batch, dtype="float32")
    data = load_task(find_task(spec.task), spec)
    loaded = load_model(model, find_task(task).kind, num_labels=data.num_labels, label_names=data.label_names)
    return loaded, spec, data.train, data.objective


def _random_llama(sizes: dict[str, int], device: torch.device) -> tuple[Loaded, RunSpec, Split, Any]:
    settings = {key: value for key, value in sizes.items() if key != "heads"}
    config = LlamaConfig(**settings, num_attention_heads=sizes["heads"], vocab_size=_VOCABULARY)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(resolve_dtype("auto", device))
    tokens = torch.randint(0, _VOCABULARY, (64, _LENGTH), generator=torch.Generator().manual_seed(0))
    spec = RunSpec(model="llama-2-7b", task="digits-flip", batch_size=1)  # only its optimizer settings are used
    return Loaded(model, ()), spec, Split({"input_ids": tokens}, tokens, np.arange(64)), NextToken(1, None)


def _measure(
    build: Callable,
    size: int,
    components: Sequence[str],
    device: torch.device,
    rounds: int,
    limit_s: float | None = None,
) -> dict[str, Any]:
    loaded, spec, train, objective = build()
    specs = [spec.with_(components=components[i % len(components)], seed=i) for i in range(size)]
    specs.sort(key=lambda one: one.components)
    model = attach(loaded, specs).to(device)
    model.train()
    with tempfile.TemporaryDirectory() as folder:
        members = [
            Member.start(
                i, one, Path(folder), adapter_name(i, size), trainable(model, one, adapter_name(i, size)), train
            )
            for i, one in enumerate(specs)
        ]
        seconds = interleaved(
            {
                str(share): lambda share=share: _update(
                    [members[i : i + share] for i in range(0, size, share)], model, train, objective, device
                )
                for share in ways(size)
            },
            rounds=rounds,
            limit_s=limit_s,
            synchronise=torch.cuda.synchronize if device.type == "cuda" else None,
        )
    share = min((n for n in ways(size) if n > 1 or size == 1), key=lambda n: median(seconds[str(n)]))
    return {
        "speedup": ratio(seconds, "1", str(share)).to_dict(),
        "share": share,
        "packed_s": median(seconds[str(share)]),
        "ways": {n: ratio(seconds, "1", n).to_dict() for n in seconds},
    }


def _update(groups: Sequence[Sequence[Member]], model, train, objective, device: torch.device) -> None:
    """One update of every member, as ``cdka.train.loop`` makes it, the members of a group sharing their passes."""
    for members in groups:
        batches = [train.take(next(member.order)) for member in members]
        counts = [objective.count(batch.labels) for batch in batches]
        with routing(model, members):
            outputs = forward(model, members, batches, device, objective)
            torch.stack([out.loss / count for out, count in zip(outputs, counts, strict=True)]).sum().backward()
        for member in members:
            member.step = min(member.step, member.spec.steps - 1)  # the schedule has an end, the measurement has none
            member.update()
