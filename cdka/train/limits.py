"""Limits of a model: the positions it can number, the tokens it has embeddings for, the layers no adapter reaches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AutoModel

from cdka.errors import CdkaError
from cdka.models.locate import locate
from cdka.models.targets import experts_note
from cdka.train.data.splits import TaskData, TextSplit
from cdka.train.read_shapes import fused_expert_params, load_config

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

_POSITIONS = re.compile(r"(^|\.)(wpe|position_embeddings|embed_positions|position_embedding|pos_embed\w*)$")


@dataclass(frozen=True)
class Positions:
    """The number of tokens that a model can number. ``learned``: a longer sequence cannot be read at all."""

    limit: int
    learned: bool


def positions_of(model: str) -> Positions | None:
    """The positions of a text model by name, directory or Hub id; None for one without a limit (T5, ALiBi).

    Learned positions are counted in the model's own embedding, built without weights; RoBERTa's first two and the
    offset of OPT and BART are no positions of tokens.
    """
    return _positions(str(locate(model)))


@lru_cache(maxsize=8)
def _positions(folder: str) -> Positions | None:
    config = load_config(folder)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    try:
        with torch.device("meta"):
            built = AutoModel.from_config(config)
    except (ValueError, KeyError, RuntimeError, ImportError):
        return None
    learned = [
        module.num_embeddings - (getattr(module, "offset", None) or _first_position(module))
        for name, module in built.named_modules()
        if isinstance(module, nn.Embedding) and _POSITIONS.search(name) and "vision" not in name
    ]
    if learned:
        return Positions(min(learned), learned=True)
    limit = getattr(text, "max_position_embeddings", None)
    return Positions(int(limit), learned=False) if limit and limit > 0 else None


def _first_position(embedding: nn.Embedding) -> int:
    """Positions count from the padding's number on, where the embedding has one (RoBERTa)."""
    return 0 if embedding.padding_idx is None else embedding.padding_idx + 1


def within_positions(model: str, max_length: int) -> tuple[int, tuple[str, ...]]:
    """(the longest sequence to make, notes): ``max_length``, cut to the positions that the model has learned."""
    found = positions_of(model)
    if found is None or max_length <= found.limit:
        return max_length, ()
    if found.learned:
        return found.limit, (
            f"max_length={max_length} is more than the {found.limit} positions of {model!r}: sequences are cut to "
            f"{found.limit} tokens.",
        )
    return max_length, (
        f"max_length={max_length} is more than the {found.limit} positions that {model!r} was trained with: it may "
        "read the rest poorly.",
    )


def check_tokens(data: TaskData, model: str) -> None:
    """Raises CdkaError where the data hold tokens that the model has no embedding for."""
    splits = [part for part in (data.train, data.validation, data.test) if isinstance(part, TextSplit)]
    tokens = [ragged.values for part in splits for ragged in (part.source, part.target) if ragged is not None]
    highest = max((int(values.max()) for values in tokens if len(values)), default=-1)
    if highest < 0:
        return
    config = load_config(locate(model))
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(text, "vocab_size", None)
    if size and highest >= size:
        raise CdkaError(
            f"the tokenizer of {model!r} makes token {highest}, but the model's vocabulary has {size} entries "
            f"(0 to {size - 1}). Save the model with resized embeddings, or with the tokenizer it was trained with."
        )


def notes_on_targets(model: nn.Module, spec: RunSpec) -> tuple[str, ...]:
    """A note where the experts of a mixture are one parameter a layer, which no adapter reaches."""
    experts = 0 if spec.method == "full" else fused_expert_params(model)
    return (experts_note(experts, sum(p.numel() for p in model.parameters())),) if experts else ()
