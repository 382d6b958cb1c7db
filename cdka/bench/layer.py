"""``cdka bench layer``: one adapted linear layer against a frozen one, PEFT's LoRA and PEFT's LoKr.

Times are ratios measured interleaved in one process; kernels, copies and peak memory are counted and exact. On a GPU
the base is bf16 and every cell is measured; on a CPU it is fp32, the largest cells are left out, and time is the
processor's time of this process, so that other programs matter less.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from cdka.bench import rivals
from cdka.bench.timing import announced, interleaved, ratio, spread
from cdka.bench.tracing import Trace, peak_bytes, torch_versions
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.terminal import print_message, print_table

LAYERS = ((1024, 1024), (4096, 4096), (14336, 4096))
"""(out_features, in_features)."""
TOKENS = (512, 2048, 8192)
CONFIGURATIONS = tuple(Components(*c) for c in ((2, 8, 4), (1, 8, 2), (2, 2, 8), (4, 16, 2)))
CELL_LIMIT_S = 8.0
"""The passes of one cell, and then its steps, take about so long at most, unless the number of rounds is given."""
LARGEST_ON_CPU = 1024 * 1024 * 2048
"""Multiply-adds of one forward pass beyond which a CPU cell would take minutes."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The document: every cell measured, and the table of targets filled in from them."""
    device = _device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rounds = args.rounds or 20
    limit_s = None if args.full or args.rounds else CELL_LIMIT_S
    wanted = [(f"{cell[1]} -> {cell[0]}, {cell[2]} tokens, {cell[3]}", cell) for cell in _cells(device, args.quick)]
    cells = []
    for out_features, in_features, tokens, components in announced(wanted):
        cells.append(_cell(out_features, in_features, tokens, components, device, dtype, rounds, limit_s))
        print_message(f"  step / PEFT LoRA {spread(cells[-1]['step_over']['lora'])}")
    counted = [_counted(components) for components in CONFIGURATIONS]
    return {
        "bench": "layer",
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "clock": "wall" if device.type == "cuda" else "processor time of the process",
        "date": datetime.date.today().isoformat(),
        "versions": torch_versions(),
        "cells": cells,
        "counted": counted,
        "targets": _targets(cells, counted),
    }


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CdkaError(f"torch cannot use this device: got {wanted!r} ({reason}). Try --device cpu.") from None
    return device


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return "CPU"


def _cells(device: torch.device, quick: bool) -> Iterator[tuple[int, int, int, Components]]:
    for out_features, in_features in LAYERS:
        for tokens in TOKENS:
            if device.type == "cpu" and out_features * in_features * tokens > LARGEST_ON_CPU:
                continue
            if quick and (tokens != (2048 if device.type == "cpu" else 8192) or out_features > 4096):
                continue
            for components in CONFIGURATIONS[:1] if quick else CONFIGURATIONS:
                yield out_features, in_features, tokens, components


def _step(layer: nn.Module, x: Tensor, grad: Tensor, optimizer: torch.optim.Optimizer | None = None) -> None:
    x.grad = None
    layer(x).backward(grad)
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _cell(
    out_features: int,
    in_features: int,
    tokens: int,
    components: Components,
    device: torch.device,
    dtype: torch.dtype,
    rounds: int,
    limit_s: float | None,
) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(tokens, in_features, device=device, dtype=dtype, requires_grad=True)
    grad = torch.randn(tokens, out_features, device=device, dtype=dtype)
    base = rivals.frozen(out_features, in_features, device, dtype)
    made = rivals.make(base, components)
    passes: dict[str, Callable[[], None]] = {"frozen": partial(_step, base, x, grad)}
    passes["cdka"] = partial(_step, made["cdka"], x, grad)
    how: dict[str, Any] = {"rounds": rounds, "limit_s": limit_s, "clock": time.process_time}
    if device.type == "cuda":
        how = {"rounds": rounds, "limit_s": limit_s, "synchronise": torch.cuda.synchronize}
    seconds = interleaved(passes, **how)
    steps = {}
    for name, layer in made.items():
        trained = [p for p in layer.parameters() if p.requires_grad]
        steps[name] = partial(_step, layer, x, grad, torch.optim.AdamW(trained, lr=1e-5))
    step_seconds = interleaved(steps, **how)
    return {
        "in_features": in_features,
        "out_features": out_features,
        "tokens": tokens,
        "components": list(components.as_tuple()),
        "num_params": {name: rivals.num_trained(layer) for name, layer in made.items()},
        "frozen_s": median(seconds["frozen"]),
        "forward_backward_over_frozen": ratio(seconds, "cdka", "frozen").to_dict(),
        "step_over": {name: ratio(step_seconds, "cdka", name).to_dict() for name in made if name != "cdka"},
    }


def _counted(components: Components) -> dict[str, Any]:
    """Kernels, copies and memory, on a CPU: they depend on the code and the ratio of the sizes, not on the device."""
    tokens, in_features, out_features = 1024, 512, 768
    result: dict[str, Any] = {"components": list(components.as_tuple())}
    for dtype in (torch.float32, torch.bfloat16):
        base = rivals.frozen(out_features, in_features, torch.device("cpu"), dtype)
        layers = {"frozen": base, **rivals.make(base, components)}
        x = torch.randn(tokens, in_features, dtype=dtype, requires_grad=True)
        grad = torch.randn(tokens, out_features, dtype=dtype)
        traces = {}
        for name in ("frozen", "cdka", "lora", "lora_low"):
            _step(layers[name], x, grad)  # the first gradient of a parameter is stored, later ones are added
            layers[name].zero_grad()
            with Trace() as traces[name]:
                _step(layers[name], x, grad)
        extra = {name: len(trace.kernels) - len(traces["frozen"].kernels) for name, trace in traces.items()}
        memory = {}
        for name in ("cdka", "lora", "lora_low"):
            network = rivals.stack(in_features, components, name, dtype)
            memory[name] = peak_bytes(partial(_step, network, x, x.detach()))
        result[str(dtype).removeprefix("torch.")] = {
            "extra_kernels": {name: extra[name] for name in ("cdka", "lora", "lora_low")},
            "output_sized_copies": len(traces["cdka"].copies(tokens * in_features)),
            "peak_memory_over": {name: memory["cdka"] / memory[name] for name in ("lora", "lora_low")},
        }
    return result


def _targets(cells: list[dict[str, Any]], counted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table of targets: for each measure the value reached, None where this machine did not measure it."""

    def cell(**wanted: Any) -> dict[str, Any] | None:
        fitting = [c for c in cells if c["components"] == [2, 8, 4] and all(c[k] == v for k, v in wanted.items())]
        return fitting[0] if fitting else None

    big = cell(in_features=4096, out_features=4096, tokens=8192)
    small = cell(in_features=1024, out_features=1024, tokens=2048)
    here = big or small
    where = None if here is None else f"{here['in_features']} -> {here['out_features']}, {here['tokens']} tokens"

    def at(source: dict[str, Any] | None, *path: str) -> dict[str, float] | None:
        for key in path:
            source = None if source is None else source[key]
        return source

    kernels = {dtype: max(c[dtype]["extra_kernels"]["cdka"] for c in counted) for dtype in ("float32", "bfloat16")}
    copies = max(c[dtype]["output_sized_copies"] for c in counted for dtype in kernels)
    memory = max(c["bfloat16"]["peak_memory_over"]["lora"] for c in counted)
    counting = "counted, largest of four configurations"
    rows = [
        ("forward and backward / frozen", 1.25, at(big, "forward_backward_over_frozen"), "4096, 8192 tokens, GPU"),
        ("step / PEFT LoRA, its defaults", 0.90, at(here, "step_over", "lora"), where),
        ("step / PEFT LoRA, autocast_adapter_dtype=False", 1.00, at(here, "step_over", "lora_low"), where),
        ("step / PEFT LoKr", 0.60, at(small, "step_over", "lokr"), "1024 -> 1024, 2048 tokens"),
        ("extra kernels, adapter in the base's precision", 8, kernels["float32"], counting),
        ("extra kernels, fp32 adapter over a bf16 base", 8, kernels["bfloat16"], counting),
        ("output-sized copies", 0, copies, counting),
        ("peak memory / PEFT LoRA, its defaults", 0.9, memory, "counted, bf16, four layers with SiLU between"),
    ]
    table = []
    for measure, target, found, place in rows:
        value = found["median"] if isinstance(found, dict) else found
        quartiles = [found["low"], found["high"]] if isinstance(found, dict) else None
        met = None if value is None else value <= target
        table.append(
            {"measure": measure, "target": target, "value": value, "quartiles": quartiles, "met": met, "where": place}
        )
    return table


def _machine(document: dict[str, Any]) -> str:
    return (
        f"{document['device_name']} ({document['device']}, {document['threads']} threads), {document['dtype']}, "
        f"torch {document['versions']['torch']}, PEFT {document['versions']['peft']}, {document['date']}; "
        f"medians of at most {document['rounds']} interleaved rounds [quartiles], {document['clock']}"
    )


def _value(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "not here"
    return f"{row['value']:.3g}" + ("" if row["quartiles"] is None else " [{:.2f}, {:.2f}]".format(*row["quartiles"]))


_MET = {True: "yes", False: "no", None: ""}


def markdown(document: dict[str, Any]) -> str:
    """The table of targets in Markdown, machine and date above it: as assets/studies/README.md holds it."""
    lines = [_machine(document) + ":", "", "| measure | target | measured | met | where |", "|---|---|---|---|---|"]
    for row in document["targets"]:
        cells = (row["measure"], f"<= {row['target']:g}", _value(row), _MET[row["met"]], row["where"] or "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def show(document: dict[str, Any]) -> None:
    """Prints the cells and the table of targets."""
    print(_machine(document) + "\n")
    rows = []
    for cell in document["cells"]:
        against = cell["step_over"]
        rows.append(
            [
                f"{cell['in_features']} -> {cell['out_features']}",
                cell["tokens"],
                ",".join(map(str, cell["components"])),
                spread(cell["forward_backward_over_frozen"]),
                *(spread(against[name]) for name in ("lora", "lora_low", "lora_ours", "lokr")),
            ]
        )
    header = ["layer", "tokens", "r1,r2,r", "fwd+bwd / frozen"]
    print_table([*header, "step / LoRA", "/ LoRA low", "/ LoRA ours", "/ LoKr"], rows)
    print()
    print_table(
        ["measure", "target", "measured", "met", "where"],
        [
            [t["measure"], f"<= {t['target']:g}", _value(t), _MET[t["met"]], t["where"] or ""]
            for t in document["targets"]
        ],
    )
