"""The tokens that a model will see of a text task, and the texts of its test examples; for a child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.tasks.catalogue import find_task
from cdka.tasks.rows import SPLITS
from cdka.train.data.load import load_task
from cdka.train.data.objectives import IGNORED
from cdka.train.data.splits import TextSplit
from cdka.train.load_model import load_tokenizer

UNLIMITED = 1 << 20


def token_view(spec: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """The document described at ``cdka.tasks.files.preview.token_preview``. Raises CdkaError."""
    return _view(RunSpec.from_dict(dict(spec)), examples)


def test_texts(spec: Mapping[str, Any], examples: Sequence[int]) -> dict[str, str]:
    """The text that each of the test examples gave the model, by the example's number. Raises CdkaError."""
    return _texts_of(RunSpec.from_dict(dict(spec)), examples)


def _texts_of(spec: RunSpec, examples: Sequence[int]) -> dict[str, str]:
    test = load_task(find_task(spec.task), spec).test
    if not isinstance(test, TextSplit):
        raise CdkaError(f"task {spec.task!r} is not about text: its examples cannot be written out.")
    rows = torch.as_tensor(np.flatnonzero(np.isin(test.ids, list(examples))))
    chosen, tokenizer = test.take(rows), load_tokenizer(spec.model)
    return {
        str(int(example)): tokenizer.hf_tokenizer.decode(chosen.source[i].tolist(), skip_special_tokens=True).strip()
        for i, example in enumerate(chosen.ids)
    }


def _view(spec: RunSpec, examples: int) -> dict[str, Any]:
    task = find_task(spec.task)
    whole = load_task(task, spec.with_(max_length=UNLIMITED), uncut=True)
    if not isinstance(whole.train, TextSplit):
        raise CdkaError(f"task {spec.task!r} has no tokens to show: it is about images.")
    cut = load_task(task, spec)
    limit = cut.max_length or UNLIMITED
    tokenizer = load_tokenizer(spec.model)
    lengths = {split: _lengths(getattr(whole, split)) for split in SPLITS}
    first = cut.train.take(torch.arange(min(examples, len(cut.train))))
    return {
        "kind": first.kind,
        "max_length": limit,
        "batch": [_shown(first, row, tokenizer.hf_tokenizer) for row in range(len(first))],
        "lengths": lengths,
        "longer": {split: sum(length > limit for length in values) for split, values in lengths.items()},
        "notes": [*cut.notes, *_unknown(first, tokenizer.hf_tokenizer, spec.model)],
        "labels": list(cut.label_names),
    }


def _unknown(batch: TextSplit, tokenizer: Any, model: str) -> list[str]:
    """A note where the tokenizer does not know a good part of what it reads."""
    tokens = batch.source.values if batch.target is None else torch.cat([batch.source.values, batch.target.values])
    unknown = tokenizer.unk_token_id
    share = 0.0 if unknown is None else (tokens == unknown).double().mean().item()
    return [f"{share:.0%} of the tokens are unknown to the tokenizer of {model!r}: it reads them all alike."] * (
        share > 0.05
    )


def _texts(ids: list[int], tokenizer: Any) -> list[str]:
    """Each token as it reads in the text: a token that begins a word has the space before it."""
    of_word_pieces = "##s" in tokenizer.get_vocab()
    found = []
    for number, raw in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        text = tokenizer.decode([number])
        if raw.startswith("##"):
            text = raw[2:]
        elif (of_word_pieces or raw.startswith(("\u0120", "\u2581"))) and not text.startswith(" "):
            text = f" {text}"
        found.append(text)
    return found


def _lengths(split: TextSplit) -> list[int]:
    total = split.source.lengths
    if split.kind == "causal-lm":
        total = total + split.target.lengths
    return total.tolist()


def _shown(batch: TextSplit, row: int, tokenizer: Any) -> dict[str, Any]:
    """One example: every token as text, and whether the loss counts it."""
    one = batch.take(torch.tensor([row]))
    pieces = one.source[0].tolist()
    judged = [False] * len(pieces)
    if one.target is not None:
        pieces = pieces + one.target[0].tolist()
        judged += [token != IGNORED for token in one.target[0].tolist()]
    shown = {"tokens": _texts(pieces, tokenizer), "judged": judged}
    if one.classes is not None:
        shown["label"] = int(one.classes[0])
    return shown
