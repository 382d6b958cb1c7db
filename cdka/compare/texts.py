"""The texts of a text task's test examples, read in a child process: tokenizers and data bring in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdka import childproc

LIMIT_S = 180.0


def texts(spec: Mapping[str, Any], examples: Sequence[int]) -> dict[int, str]:
    """The text that each of the test examples gave the model, by example; takes some seconds.

    Raises CdkaError where the task is not about text, or its data or tokenizer are not at hand.
    """
    found = childproc.call(
        "cdka.train.data.token_preview:test_texts",
        {"spec": dict(spec), "examples": list(map(int, examples))},
        limit_s=LIMIT_S,
        failure=f"the examples of {spec.get('task')!r} could not be read",
    )
    return {int(example): text for example, text in found.items()}
