"""Estimated against measured peak memory of a training step: ``python -m cdka.bench.memory --model digits-vit``.

Builds the model with random weights from its catalogue dimensions (``--shrink`` keeps a Llama-like model small enough
for a laptop), trains a few steps with our adapter, and reports the peak of what torch had allocated: by
``torch.cuda.max_memory_allocated`` on a GPU, by the profiler's allocation record on a CPU. One JSON document on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageClassification

from cdka.adapter import CdkaConfig
from cdka.components import Components
from cdka.cost.memory import training_memory
from cdka.models.catalogue import find_model
from cdka.models.targets import peft_targets, select
from cdka.train.load_model import locate
from cdka.train.read_shapes import details_of, load_config, shapes_of
from tools.published import PUBLISHED

SMALL = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 2000,
}
"""Fields of a causal model's configuration that ``--shrink`` replaces."""


_AUTO = {"image-classification": AutoModelForImageClassification, "causal-lm": AutoModelForCausalLM}


def build(name: str, dtype: torch.dtype, device: str, shrink: bool):
    """The model with random weights, and its shapes."""
    published = {entry.name: entry for entry in PUBLISHED}
    with torch.device(device):
        if name in published:
            entry = published[name]
            settings = {k: v for k, v in entry.config.items() if k != "model_type"}
            config = AutoConfig.for_model(entry.config["model_type"], **{**settings, **(SMALL if shrink else {})})
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
            family, kind = entry.family, entry.kind
        else:
            config = load_config(locate(name))
            family, kind = find_model(name).family, find_model(name).kind
            model = _AUTO[kind].from_config(config, dtype=dtype)
    shapes = shapes_of(model, name, family=family, kind=kind)
    return model, replace(shapes, details=details_of(config, model))


def batch_of(model, shapes, batch_size: int, length: int | None, device: str):
    """Random inputs and labels of the right shape."""
    config = model.config
    if shapes.kind == "image-classification":
        size = (batch_size, config.num_channels, config.image_size, config.image_size)
        inputs = {"pixel_values": torch.randn(size, device=device)}
        return inputs, torch.zeros(batch_size, dtype=torch.long, device=device)
    tokens = torch.randint(0, config.vocab_size, (batch_size, length), device=device)
    return {"input_ids": tokens, "use_cache": False}, tokens


def measure(model, optimizer, inputs, labels, device: str) -> int:
    """The peak of allocated bytes over three steps, base weights included."""

    def step() -> None:
        logits = model(**inputs).logits
        flat = logits.reshape(-1, logits.shape[-1])
        torch.nn.functional.cross_entropy(flat.float(), labels.reshape(-1)).backward()
        del logits, flat
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # creates the optimizer's state
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        for _ in range(3):
            step()
        return torch.cuda.max_memory_allocated()
    resident = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    resident += sum(
        v.numel() * v.element_size() for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)
    )
    resident += sum(t.numel() * t.element_size() for t in [*inputs.values(), labels] if torch.is_tensor(t))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    live = peak = 0
    for event in events:
        live += event.nbytes()
        peak = max(peak, live)
    return resident + peak


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="digits-vit")
    parser.add_argument("--components", default="2,8,4")
    parser.add_argument("--target-modules", default="all-linear")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--length", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shrink", action="store_true")
    args = parser.parse_args(argv)
    components = Components.parse(args.components)
    model, shapes = build(args.model, getattr(torch, args.dtype), args.device, args.shrink)
    estimate = training_memory(
        shapes,
        select(shapes, args.target_modules),
        components,
        batch_size=args.batch_size,
        length=args.length,
        dtype=args.dtype,
    )
    r1, r2, r = components.as_tuple()
    config = CdkaConfig(r1=r1, r2=r2, r=r, target_modules=peft_targets(shapes, args.target_modules))
    model = get_peft_model(model, config)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    inputs, labels = batch_of(model, shapes, args.batch_size, args.length, args.device)
    measured = measure(model, optimizer, inputs, labels, args.device)
    document = {
        **vars(args),
        "measured_bytes": measured,
        "estimated_bytes": estimate.total_bytes,
        "ratio": round(estimate.total_bytes / measured, 4),
        "parts": vars(estimate),
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
