"""Build the embedded ViTs: ``python -m tools.build_digits_vit [NAME ...]`` writes ``assets/digits-vit`` and its family.

Five small Vision Transformers of one architecture, trained from scratch on upright digits, so that what is found with
one of them can be tried on the others. ``FAMILY`` gives each its seed (of the weights, the batches and the shifts) and
its split of the 1,797 digits: ``digits-vit`` has the shipped split, each other one its own. Patches of 4x4 make
sequences of five tokens, so that a fine-tune takes seconds on a CPU. Trained as one would train such a model for use:
pictures shifted by up to a pixel, until validation has stopped rising; nothing about adapters was looked at.

``digits-vit@2602`` is the base of version 0.1.0 and no member: it was trained for 400 steps without shifts on purpose,
so that configurations differ more on it, and does unusually badly with r2 = 1, LoRA included. It stays so that what was
measured on it can be checked; ``git log`` has its recipe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification

from cdka.errors import unknown
from cdka.paths import assets_dir
from cdka.runs.spec import RunSpec
from cdka.train.data.load import load_task

FAMILY = {"digits-vit": 11, "digits-vit@12": 12, "digits-vit@13": 13, "digits-vit@14": 14, "digits-vit@15": 15}
"""The seed of each; each but the first deals the digits anew with it."""
STEPS, BATCH_SIZE, PEAK_LR, WEIGHT_DECAY, EVAL_EVERY = 1200, 64, 1e-3, 0.05, 200
CONFIG = {
    "image_size": 8,
    "num_channels": 1,
    "patch_size": 4,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@torch.no_grad()
def accuracy(model: torch.nn.Module, task: str, split_seed: int | None, split: str) -> float:
    """The share of a digits task's split that ``model`` labels correctly."""
    part = getattr(_data(task, split_seed), split)
    return (model(**part.inputs).logits.argmax(-1) == part.labels).float().mean().item()


def _data(task: str, split_seed: int | None):
    options = {} if split_seed is None else {"split_seed": split_seed}
    return load_task(RunSpec("digits-vit@2602", task, task_options=options))


def shifted(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each picture of (n, 1, 8, 8) moved by -1, 0 or 1 pixel either way; what comes in is background."""
    count, size = len(pixels), pixels.shape[-1]
    padded = F.pad(pixels, (1, 1, 1, 1), value=-1.0)[:, 0]
    down, right = torch.randint(0, 3, (2, count, 1), generator=generator)
    rows, columns = down + torch.arange(size), right + torch.arange(size)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def build(name: str, destination: Path) -> dict[str, float]:
    """Train, save in safetensors, and return the accuracies that are recorded beside the weights."""
    seed = FAMILY[name]
    split_seed = None if name == "digits-vit" else seed
    torch.set_num_threads(1)  # sums depend on the number of threads
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    labels = {str(digit): digit for digit in range(10)}
    model = ViTForImageClassification(ViTConfig(**CONFIG, id2label={v: k for k, v in labels.items()}, label2id=labels))
    train = _data("digits", split_seed).train
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=STEPS)
    validation = {}
    for step in range(1, STEPS + 1):
        batch = train.take(torch.randint(0, len(train), (BATCH_SIZE,), generator=generator))
        loss = F.cross_entropy(model(shifted(batch.inputs["pixel_values"], generator)).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % EVAL_EVERY == 0:
            validation[step] = round(accuracy(model, "digits", split_seed, "validation"), 4)
            print(f"{name} step {step} of {STEPS}: validation accuracy {validation[step]:.3f}", flush=True)
    model.half().float().eval()  # stored in half precision, half the size: what is measured is what is stored
    measured = {
        "upright_validation_accuracy": validation,
        "upright_test_accuracy": round(accuracy(model, "digits", split_seed, "test"), 4),
        "flipped_test_accuracy": round(accuracy(model, "digits-flip", split_seed, "test"), 4),
    }
    model.save_pretrained(destination)
    weights = destination / "model.safetensors"
    halves = {key: value.half().contiguous() for key, value in load_file(weights).items()}
    save_file(halves, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors writes 0600, and wheels keep modes
    card = {
        "seed": seed,
        "split_seed": split_seed,
        "steps": STEPS,
        "recipe": f"from scratch on 900 upright digits, shifted by up to a pixel; batch {BATCH_SIZE}, AdamW, one cycle "
        f"to {PEAK_LR:g}, weight decay {WEIGHT_DECAY:g}",
        "built_by": f"python -m tools.build_digits_vit {name}",
        **measured,
    }
    (destination / "provenance.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return measured


def main(names: Sequence[str]) -> None:
    for name in names or FAMILY:
        if name not in FAMILY:
            raise unknown("base model", name, FAMILY)
        print(name, build(name, assets_dir() / name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
