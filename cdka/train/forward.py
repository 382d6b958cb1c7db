"""One forward pass of a pack: each member's batch through the shared base with that member's adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch.utils.checkpoint import checkpoint

from cdka.adapter.pack import PackRouter
from cdka.cost.memory import LOGITS_LIMIT_BYTES
from cdka.train import distributed
from cdka.train.data.objectives import IGNORED, NextToken, Objective, token_loss
from cdka.train.data.splits import AnySplit, Split, TextSplit
from cdka.train.member import Member

WHOLE_LOGITS = 2**21
"""Up to so many logits the loss is made in one piece by autograd: they cost little."""


@dataclass(frozen=True)
class Output:
    """One member's batch: the summed loss on the device, and the logits where they were kept whole.

    ``right`` counts the next tokens that had the largest logit, where that was asked for.
    """

    loss: torch.Tensor
    logits: torch.Tensor | None
    labels: torch.Tensor
    right: torch.Tensor | None = None


def forward(
    model: torch.nn.Module,
    members: Sequence[Member],
    batches: Sequence[Split | TextSplit],
    device: torch.device,
    objective: Objective,
) -> list[Output]:
    """The output of each member. The batches must be of equal size; text is padded to the longest of all.

    A generative model is asked for the judged positions alone: its logits are the largest tensor of all, and at the
    positions of the prompt nobody reads them. Without gradients, the right next tokens are counted too.
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
            return [_read_logits(objective, logits[part], labels[part]) for part in slices]
        hidden = _before_head(model, head, inputs)
        # The limit is that of all members together: the logits of a pack take no more memory than those of a run.
        limit = LOGITS_LIMIT_BYTES[device.type] // len(members)
        return [_read_hidden(objective, head, hidden[part], labels[part], limit) for part in slices]


def split_rows(lengths: Sequence[torch.Tensor], parts: int, pass_tokens: int | None) -> tuple[torch.Tensor, ...]:
    """Row numbers of a batch in ``parts`` parts, or in more of them where these hold over ``pass_tokens`` tokens.

    ``lengths`` are those of each member's examples, (n,) each. Tokens count with their padding; where there are more
    parts than asked, rows of similar length come together. Several processes, which shard each part, take no more.
    """
    rows = torch.arange(len(lengths[0]))
    if pass_tokens is None or distributed.size() > 1:
        return rows.chunk(parts)
    longest = torch.stack(list(lengths)).amax(0)  # (n,)
    needed = -(-len(rows) * len(lengths) * int(longest.max()) // pass_tokens)
    if needed <= parts:
        return rows.chunk(parts)
    return rows[torch.argsort(longest, stable=True)].chunk(min(needed, len(rows)))


def lengths_of(batch: AnySplit) -> torch.Tensor:
    """(n,) tokens of each example; an example that is no text counts as one."""
    return batch.lengths if isinstance(batch, TextSplit) else torch.ones(len(batch), dtype=torch.long)


def plain_model(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model itself, adapters in place, without PEFT's outer shell."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _plain_head(model: torch.nn.Module) -> torch.nn.Module | None:
    """The head that makes logits out of hidden states, where nothing comes after it and no adapter sits on it."""
    base = plain_model(model)
    config = base.config.get_text_config()
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


def _read_logits(objective: Objective, logits: torch.Tensor, labels: torch.Tensor) -> Output:
    right = None
    if isinstance(objective, NextToken) and not torch.is_grad_enabled():
        predicted, targets = objective.aligned(logits, labels)
        right = (predicted.argmax(-1) == targets).sum()  # IGNORED is no token
    return Output(objective.loss(logits, labels), logits, labels, right)


def _read_hidden(
    objective: NextToken, head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, limit_bytes: int
) -> Output:
    """The loss from the states before the head, whose logits are made at the judged positions alone, in pieces."""
    states, targets = objective.aligned(hidden, labels)
    judged = targets != IGNORED
    states, targets = states[judged], targets[judged]
    pieces = max(1, limit_bytes // (4 * head.out_features))
    if not torch.is_grad_enabled():
        return _counted_loss(head, states.split(pieces), targets.split(pieces), labels)
    if len(targets) <= pieces and len(targets) * head.out_features <= WHOLE_LOGITS:
        return Output(token_loss(head(states), targets), None, labels)
    if not any(parameter.requires_grad for parameter in head.parameters()):
        return Output(_FrozenHeadLoss.apply(states, head.weight, head.bias, targets, pieces), None, labels)
    total = _zero_loss(states)
    for some, wanted in zip(states.split(pieces), targets.split(pieces), strict=True):
        total = total + checkpoint(lambda s, w: token_loss(head(s), w), some, wanted, use_reentrant=False)
    return Output(total, None, labels)


class _FrozenHeadLoss(torch.autograd.Function):
    """The summed cross-entropy after a frozen head; the gradient of the states is made with it, piece by piece. (ours)

    One piece of logits is in memory at a time and becomes its own gradient in place, so that the head runs once
    forward and once backward whatever the vocabulary.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets, pieces: int):
        gradient = torch.empty_like(states)  # (n, hidden_size)
        total = _zero_loss(states)
        for some, wanted, out in zip(states.split(pieces), targets.split(pieces), gradient.split(pieces), strict=True):
            logits = torch.nn.functional.linear(some, weight, bias)  # (piece, vocabulary)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            total = total + replace_by_gradient(logits, wanted)
            torch.mm(logits.to(weight.dtype), weight, out=out)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient.dtype), None, None, None, None


def replace_by_gradient(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy of ``logits`` (n, classes), which are overwritten by its gradient."""
    rows = torch.arange(len(targets), device=targets.device)
    largest = logits.amax(-1, keepdim=True)  # (n, 1)
    wanted = logits[rows, targets] - largest[:, 0]
    total = logits.sub_(largest).exp_().sum(-1)  # (n,)
    logits.div_(total[:, None])
    logits[rows, targets] -= 1
    return (total.log() - wanted).sum()


def _counted_loss(
    head: torch.nn.Module, states: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], labels: torch.Tensor
) -> Output:
    total, right = _zero_loss(states[0]), torch.zeros((), dtype=torch.int64, device=labels.device)
    for some, wanted in zip(states, targets, strict=True):
        logits = head(some)
        right = right + (logits.argmax(-1) == wanted).sum()
        small = logits.numel() <= WHOLE_LOGITS or logits.dtype not in (torch.float32, torch.float64)
        total = total + (token_loss if small else replace_by_gradient)(logits, wanted)
    return Output(total, None, labels, right)


def _zero_loss(states: torch.Tensor) -> torch.Tensor:
    return states.new_zeros((), dtype=torch.float64 if states.dtype == torch.float64 else torch.float32)


def precision(member: Member, device: torch.device) -> AbstractContextManager:
    """Full fine-tuning keeps float32 weights and computes in bfloat16 on a GPU; adapters look after themselves."""
    if member.spec.method == "full" and member.spec.dtype == "auto" and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    return nullcontext()


def routing(model: torch.nn.Module, members: Sequence[Member]) -> AbstractContextManager:
    """The adapter of each row: K equal slices in a pack, everything through the one adapter else.

    A backward pass that recomputes activations belongs inside it too. Entering it again inside changes nothing.
    """
    if members[0].adapter == "default":
        return nullcontext()
    if model not in _ROUTERS:
        _ROUTERS[model] = PackRouter(model)
    return _ROUTERS[model].route([member.adapter for member in members])


_ROUTERS: WeakKeyDictionary[torch.nn.Module, PackRouter] = WeakKeyDictionary()
"""Walking a model's modules takes as long as a small model's forward pass: done once per model."""
