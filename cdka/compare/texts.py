"""What a text task's test examples asked: read in a process of its own, since tokenizers and data bring in torch.

``python -m cdka.compare.texts EXAMPLE... < spec.json`` prints ``{"texts": {...}}`` or ``{"error": "one line"}``.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec

LIMIT_S = 180


def texts(spec: Mapping[str, Any], examples: Sequence[int]) -> dict[int, str]:
    """The text that each of the test examples gave the model, by example; takes some seconds.

    Raises CdkaError where the task is not about text, or its data or tokenizer are not at hand.
    """
    command = [sys.executable, "-m", "cdka.compare.texts", *map(str, examples)]
    try:
        done = subprocess.run(
            command, input=json.dumps(dict(spec)), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        raise CdkaError(f"the examples of {spec.get('task')!r} could not be read. Try again.") from None
    if "error" in answer:
        raise CdkaError(answer["error"])
    return {int(example): text for example, text in answer["texts"].items()}


def _read(spec: RunSpec, wanted: Sequence[int]) -> dict[int, str]:
    import numpy as np
    import torch

    from cdka.train.data.load import load_task
    from cdka.train.data.splits import TextSplit
    from cdka.train.load_model import load_tokenizer

    test = load_task(spec).test
    if not isinstance(test, TextSplit):
        raise CdkaError(f"task {spec.task!r} is not about text: its examples cannot be written out.")
    rows = torch.as_tensor(np.flatnonzero(np.isin(test.ids, list(wanted))))
    chosen, tokenizer = test.take(rows), load_tokenizer(spec.model)
    return {
        int(example): tokenizer.hf_tokenizer.decode(chosen.source[i].tolist(), skip_special_tokens=True).strip()
        for i, example in enumerate(chosen.ids)
    }


def _main(argv: Sequence[str]) -> None:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = {"texts": _read(RunSpec.from_dict(json.load(sys.stdin)), [int(text) for text in argv])}
    except CdkaError as error:
        answer = {"error": " ".join(str(error).split())}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main(sys.argv[1:])
