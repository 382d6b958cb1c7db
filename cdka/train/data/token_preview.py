"""What a model will see of a text task: ``python -m cdka.train.data.token_preview EXAMPLES < spec.json``.

A process of its own because it imports torch; prints one JSON document, or ``{"error": "one line"}``.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import torch

from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.tasks.rows import SPLITS
from cdka.train.data.load import load_task
from cdka.train.data.objectives import IGNORED
from cdka.train.data.splits import TextSplit
from cdka.train.load_model import load_tokenizer

UNLIMITED = 1 << 20


def token_view(spec: RunSpec, examples: int) -> dict[str, Any]:
    """The document described at ``cdka.tasks.files.preview.token_preview``. Raises CdkaError."""
    whole = load_task(spec.with_(max_length=UNLIMITED))
    if not isinstance(whole.train, TextSplit):
        raise CdkaError(f"task {spec.task!r} has no tokens to show: it is about images.")
    cut = load_task(spec)
    tokenizer = load_tokenizer(spec.model)
    lengths = {split: _lengths(getattr(whole, split)) for split in SPLITS}
    first = cut.train.take(torch.arange(min(examples, len(cut.train))))
    return {
        "kind": first.kind,
        "max_length": spec.max_length,
        "batch": [_shown(first, row, tokenizer.hf_tokenizer) for row in range(len(first))],
        "lengths": lengths,
        "longer": {split: sum(length > spec.max_length for length in values) for split, values in lengths.items()},
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


def main(argv: list[str]) -> None:
    """Print the view of the spec on standard input."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = token_view(RunSpec.from_dict(json.load(sys.stdin)), int(argv[0]))
    except CdkaError as error:
        answer = {"error": " ".join(str(error).split())}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
