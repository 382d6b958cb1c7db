"""Let the runs of a pack write, greedily and in one batch: the answers of tasks that are judged on text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import GenerationConfig

from cdka.train.data.objectives import Generation
from cdka.train.data.splits import TextSplit
from cdka.train.forward import plain_model, precision, routing
from cdka.train.member import Member


def _greedy(how: Generation) -> GenerationConfig:
    """Greedy decoding with every setting named, so that no default of the model (sampling, penalties) comes in."""
    return GenerationConfig(
        max_new_tokens=how.max_new_tokens,
        eos_token_id=list(how.eos_ids),
        pad_token_id=how.pad_id,
        use_cache=True,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        min_new_tokens=0,
    )


@torch.no_grad()
def generate(
    model: torch.nn.Module, members: Sequence[Member], batch: TextSplit, device: torch.device, how: Generation
) -> list[list[str]]:
    """What each member writes for each example: one list of texts per member, in the order of the batch."""
    prompts = {name: values.repeat(len(members), 1).to(device) for name, values in batch.prompts.items()}
    with precision(members[0], device), routing(model, members):
        tokens = plain_model(model).generate(**prompts, generation_config=_greedy(how))
    start = prompts["input_ids"].shape[1] if batch.kind == "causal-lm" else 1
    texts = how.decode(_until_end(tokens[:, start:].tolist(), set(how.eos_ids)))
    return [texts[i * len(batch) : (i + 1) * len(batch)] for i in range(len(members))]


def _until_end(rows: list[list[int]], eos_ids: set[int]) -> list[list[int]]:
    """Each row up to its first end mark; the padding behind it is no text."""
    return [row[: next((i for i, token in enumerate(row) if token in eos_ids), len(row))] for row in rows]
