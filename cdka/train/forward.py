"""One forward pass of a pack: each member's batch through the shared base with that member's adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch.utils.checkpoint import checkpoint

from cdka.adapter.pack import PackRouter
from cdka.train.data.objectives import IGNORED, NextToken, Objective, token_loss
from cdka.train.data.task_data import Split, TextSplit
from cdka.train.member import Member

LOGITS_LIMIT_BYTES = 256 * 2**20
"""Above this the cross-entropy of a pack is computed in chunks, each recomputed in the backward pass.

The limit is that of all members together, so that the logits of a pack take no more memory than those of a run.
"""


@dataclass(frozen=True)
class Output:
    """One member's batch: the summed loss on the device, and the logits where they were kept whole."""

    loss: torch.Tensor
    logits: torch.Tensor | None
    labels: torch.Tensor


def forward(
    model: torch.nn.Module,
    members: Sequence[Member],
    batches: Sequence[Split | TextSplit],
    device: torch.device,
    objective: Objective,
) -> list[Output]:
    """The output of each member. The batches must be of equal size; text is padded to the longest of all.

    A model that writes is asked for the judged positions alone: its logits are the largest tensor of all, and at
    the positions of the prompt nobody reads them.
    """
    whole = batches[0].join(batches[1:])
    inputs = {name: values.to(device, non_blocking=True) for name, values in whole.inputs.items()}
    labels = whole.labels.to(device, non_blocking=True)
    size = len(batches[0])
    slices = [slice(i * size, (i + 1) * size) for i in range(len(batches))]
    with precision(members[0], device), routing(model, members):
        head = _plain_head(model) if isinstance(objective, NextToken) else None
        if head is None:
            logits = model(**inputs).logits
            return [Output(objective.loss(logits[part], labels[part]), logits[part], labels[part]) for part in slices]
        hidden = _before_head(model, head, inputs)
        limit = LOGITS_LIMIT_BYTES // len(members)
        return [
            Output(_next_token_loss(objective, head, hidden[part], labels[part], limit), None, labels[part])
            for part in slices
        ]


def plain_model(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model itself, adapters in place, without PEFT's outer shell."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _plain_head(model: torch.nn.Module) -> torch.nn.Module | None:
    """The head that makes logits out of hidden states, where nothing comes after it and no adapter sits on it."""
    base = plain_model(model)
    config = base.config
    after = ("final_logit_softcapping", "logit_scale", "logits_scaling")
    changed = any(getattr(config, name, None) not in (None, 1, 1.0) for name in after)
    if changed or hasattr(base, "final_logits_bias"):
        return None
    head = base.get_output_embeddings()
    return head if type(head) is torch.nn.Linear else None


class _ReachedHead(Exception):
    """The forward pass has arrived where it is needed."""


def _before_head(model: torch.nn.Module, head: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The hidden states (n, length, hidden_size) as they enter the head, which is not run."""
    caught: list[torch.Tensor] = []

    def catch(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        caught.append(args[0])
        raise _ReachedHead

    handle = head.register_forward_pre_hook(catch)
    try:
        model(**inputs, use_cache=False)
    except _ReachedHead:
        return caught[0]
    finally:
        handle.remove()
    raise RuntimeError(f"{type(model).__name__} made its output without its head")


def _next_token_loss(
    objective: NextToken, head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, limit_bytes: int
) -> torch.Tensor:
    hidden, targets = objective.aligned(hidden, labels)
    judged = targets != IGNORED
    hidden, targets = hidden[judged], targets[judged]
    rows = max(1, limit_bytes // (4 * head.out_features))
    if len(targets) <= rows:
        return token_loss(head(hidden), targets)
    total = hidden.new_zeros((), dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
    for states, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
        total = total + checkpoint(lambda s, w: token_loss(head(s), w), states, wanted, use_reentrant=False)
    return total


def precision(member: Member, device: torch.device) -> AbstractContextManager:
    """Full fine-tuning keeps float32 weights and computes in bfloat16 on a GPU; adapters look after themselves."""
    if member.spec.method == "full" and member.spec.dtype == "auto" and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    return nullcontext()


def routing(model: torch.nn.Module, members: Sequence[Member]) -> AbstractContextManager:
    """Which rows go through which adapter: K equal slices in a pack, everything through the one adapter else.

    A backward pass that recomputes activations belongs inside it too. Entering it again inside changes nothing.
    """
    if members[0].adapter == "default":
        return nullcontext()
    if model not in _ROUTERS:
        _ROUTERS[model] = PackRouter(model)
    return _ROUTERS[model].route([member.adapter for member in members])


_ROUTERS: WeakKeyDictionary[torch.nn.Module, PackRouter] = WeakKeyDictionary()
"""Walking a model's modules takes as long as a small model's forward pass: done once per model."""
