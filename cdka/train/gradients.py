"""Gradients of the frozen model: of its linear layers on a few batches, and as the start of an adapter (ours)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cdka.adapter import initialise_from_gradient, weight_gradients
from cdka.models.targets import peft_targets
from cdka.train.data.objectives import Objective
from cdka.train.data.splits import Split, TextSplit
from cdka.train.forward import forward, routing
from cdka.train.member import Member

MAX_BYTES = 2**29
"""Gradients beyond this are not held: of each kind of layer, evenly spaced ones are taken."""


def mean_gradients(
    model_name: str,
    task: str,
    *,
    batches: int,
    batch_size: int,
    seed: int,
    target_modules: str | tuple[str, ...],
    task_options: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """The gradient (out_features, in_features) in float32 of the mean loss of the batches, by path of target module.

    Backpropagated once through the frozen model, in evaluation mode and float32. A head that the checkpoint does not
    have is drawn by ``seed``, as fine-tuning would.
    """
    import torch

    from cdka.runs.resolve import spec_for
    from cdka.tasks.catalogue import find_task
    from cdka.train.data.load import load_task
    from cdka.train.load_model import load_model
    from cdka.train.member import data_order
    from cdka.train.read_shapes import shapes_of

    spec = spec_for(model_name, task, seed=seed, batch_size=batch_size, task_options=dict(task_options or {}))
    torch.manual_seed(seed)
    info = find_task(task)
    data = load_task(info, spec)
    kind = data.kind or info.kind
    model = load_model(model_name, kind, num_labels=data.num_labels, label_names=data.label_names).model
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model.to(device).eval().requires_grad_(False)
    chosen = _chosen_modules(model, peft_targets(shapes_of(model, model_name), target_modules))
    for module in chosen.values():
        module.weight.requires_grad_(True)
    order = data_order(len(data.train), batch_size, seed)
    for _ in range(batches):
        batch = data.train.take(next(order))
        labels = batch.labels.to(device)
        logits = model(**{name: values.to(device) for name, values in batch.inputs.items()}).logits
        loss = data.objective.loss(logits, labels) / max(1, data.objective.count(batch.labels))
        (loss / batches).backward()
    return {path: _as_matrix(module) for path, module in chosen.items()}


def _chosen_modules(model, targets: list[str] | str) -> Mapping[str, Any]:
    """The modules that PEFT would adapt, thinned out evenly per kind where all gradients would not fit in memory."""
    import re

    from cdka.train.read_shapes import linear_sizes, template

    def matches(path: str) -> bool:
        if isinstance(targets, str):
            return re.fullmatch(targets, path) is not None
        return any(path == name or path.endswith(f".{name}") for name in targets)

    found = {p: m for p, m in model.named_modules() if linear_sizes(m) is not None and matches(p)}
    total = sum(module.weight.numel() * 4 for module in found.values())
    if total <= MAX_BYTES:
        return found
    kinds: dict[str, list[str]] = {}
    for path in found:
        kinds.setdefault(template(path), []).append(path)
    share = MAX_BYTES / total
    kept = set()
    for paths in kinds.values():
        places = np.linspace(0, len(paths) - 1, max(1, int(share * len(paths)))).round().astype(int)
        kept |= {paths[i] for i in places}
    return {path: module for path, module in found.items() if path in kept}


def _as_matrix(module) -> np.ndarray:
    from transformers.pytorch_utils import Conv1D

    if module.weight.grad is None:
        out, inner = module.weight.shape
        return np.zeros((inner, out) if isinstance(module, Conv1D) else (out, inner), np.float32)
    gradient = module.weight.grad.float().cpu().numpy()
    return np.ascontiguousarray(gradient.T if isinstance(module, Conv1D) else gradient)


def start_from_gradient(
    model: torch.nn.Module, member: Member, train: Split | TextSplit, objective: Objective, device: torch.device
) -> str:
    """Initialises the member's adapter from the gradient on one batch of training data; returns what was reached.

    The batch depends on the run's seed and leaves the order of the data in training as it was. Gradients of all
    adapted weights are held at one time.
    """
    generator = torch.Generator().manual_seed(member.spec.seed)
    batch = train.take(torch.randperm(len(train), generator=generator)[: member.spec.batch_size])

    def loss() -> torch.Tensor:
        (output,) = forward(model, [member], [batch], device, objective)
        return output.loss / max(1, objective.count(batch.labels))

    with routing(model, [member]):
        gradients = weight_gradients(model, loss)
    reached = initialise_from_gradient(model, gradients, member.adapter)
    return (
        f"started from the gradient on {len(batch)} samples: mean alignment of the first step with full fine-tuning "
        f"{statistics.mean(reached.values()):.2f} on that batch"
    )
