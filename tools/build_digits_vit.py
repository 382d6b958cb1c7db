"""Build the embedded ViT: ``python -m tools.build_digits_vit`` writes ``assets/digits-vit``.

A small Vision Transformer, trained from scratch on the upright digits' training split, from one seed. Patches of 4x4
make sequences of five tokens, so that a fine-tune takes seconds on a CPU. Training is short and unaugmented on purpose:
with shifted images and 1,500 steps the model became so general (98 % upright) that every adapter learnt the flipped
digits at once and no configuration could be told from another.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import ViTConfig, ViTForImageClassification

from cdka.paths import assets_dir
from cdka.tasks.catalogue import find_task
from cdka.train.data.digits import load

SEED, STEPS, BATCH_SIZE, PEAK_LR, WEIGHT_DECAY = 2602, 400, 64, 1e-3, 0.05
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
def accuracy(model: torch.nn.Module, task: str, split: str = "test") -> float:
    """The share of a digits task's split that ``model`` labels correctly."""
    part = getattr(load(find_task(task)), split)
    return (model(**part.inputs).logits.argmax(-1) == part.labels).float().mean().item()


def build(destination: Path) -> dict[str, float]:
    """Train, save in safetensors, and return the accuracies that are recorded beside the weights."""
    torch.set_num_threads(1)  # sums depend on the number of threads, and 400 steps make the difference visible
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    labels = {str(digit): digit for digit in range(10)}
    model = ViTForImageClassification(ViTConfig(**CONFIG, id2label={v: k for k, v in labels.items()}, label2id=labels))
    train = load(find_task("digits")).train
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=STEPS)
    model.train()
    for _ in range(STEPS):
        rows = torch.randint(0, len(train), (BATCH_SIZE,), generator=generator)
        batch = train.take(rows)
        loss = F.cross_entropy(model(**batch.inputs).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    measured = {
        "upright_test_accuracy": round(accuracy(model, "digits"), 4),
        "flipped_test_accuracy": round(accuracy(model, "digits-flip"), 4),
    }
    model.save_pretrained(destination)
    (destination / "model.safetensors").chmod(0o644)  # safetensors writes 0600, and wheels keep modes
    (destination / "provenance.json").write_text(
        json.dumps({"seed": SEED, "steps": STEPS, "built_by": "python -m tools.build_digits_vit", **measured}, indent=2)
        + "\n"
    )
    return measured


if __name__ == "__main__":
    print(build(assets_dir() / "digits-vit"))
