"""Gradients of the frozen model's linear layers on a few batches (torch), kept on disk by what they depend on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cdka.align.request import AlignRequest
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.models.targets import peft_targets
from cdka.paths import home_dir

MAX_BYTES = 2**29
"""Gradients beyond this are not held: of each kind of layer, evenly spaced ones are taken."""


def shelf() -> Path:
    """The folder of everything that the lab keeps."""
    folder = home_dir() / "align"
    folder.mkdir(exist_ok=True)
    return folder


def gradient_file(request: AlignRequest) -> Path:
    """Where the gradients of this request are, once measured."""
    return shelf() / f"gradients-{request.gradient_key}.npz"


def load_or_compute(request: AlignRequest) -> dict[str, np.ndarray]:
    """The gradient (out, in) in float32 of each target module, by its path. Imports torch only where needed."""
    file = gradient_file(request)
    if not file.is_file():
        gradients = compute(request)
        temporary = file.with_name(f"{file.stem}.{os.getpid()}.tmp.npz")
        np.savez(temporary, **gradients)
        temporary.replace(file)
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


def compute(request: AlignRequest) -> dict[str, np.ndarray]:
    """Backpropagate the mean loss of the batches once through the frozen model, in evaluation mode and float32.

    A head that the checkpoint does not have is drawn by the request's seed, as fine-tuning would.
    """
    import torch

    from cdka.runs.spec import resolve
    from cdka.tasks.catalogue import find_task
    from cdka.train.data.load import load_task
    from cdka.train.introspect import shapes_of
    from cdka.train.load_model import load_model
    from cdka.train.member import data_order

    spec = resolve(request.model, request.task, seed=request.seed, batch_size=request.batch_size)
    torch.manual_seed(request.seed)
    data = load_task(spec)
    kind = data.kind or find_task(request.task).kind
    model = load_model(request.model, kind, num_labels=data.num_labels).model
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model.to(device).eval().requires_grad_(False)
    chosen = _chosen_modules(model, peft_targets(shapes_of(model, request.model), request.target_modules))
    for module in chosen.values():
        module.weight.requires_grad_(True)
    order = data_order(len(data.train), request.batch_size, request.seed)
    for _ in range(request.batches):
        batch = data.train.take(next(order))
        labels = batch.labels.to(device)
        logits = model(**{name: values.to(device) for name, values in batch.inputs.items()}).logits
        loss = data.objective.loss(logits, labels) / max(1, data.objective.count(batch.labels))
        (loss / request.batches).backward()
    return {path: _as_matrix(module) for path, module in chosen.items()}


def _chosen_modules(model, targets: list[str] | str) -> Mapping[str, object]:
    """The modules that PEFT would adapt, thinned out evenly per kind where all gradients would not fit in memory."""
    import re

    from cdka.train.introspect import linear_sizes, template

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


def check_finite(gradients: Mapping[str, np.ndarray]) -> None:
    """Raises CdkaError where a gradient is not finite, or all of them vanish: nothing can be measured then."""
    if not gradients:
        raise CdkaError("no target module has a gradient. Choose other target modules.")
    broken = [path for path, gradient in gradients.items() if not np.isfinite(gradient).all()]
    if broken:
        raise CdkaError(f"the gradient of {broken[0]!r} is not finite. Try another seed or a smaller batch.")
    if not any(gradient.any() for gradient in gradients.values()):
        raise CdkaError("every gradient is zero: the loss does not depend on the target modules on this batch.")


def shapes_of_gradients(gradients: Mapping[str, np.ndarray]) -> list[LinearShape]:
    """One layer per gradient, for counting parameters."""
    return [LinearShape(path, g.shape[1], g.shape[0], 1, "other") for path, g in gradients.items()]
