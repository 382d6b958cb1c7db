"""From a GGUF file to a folder of safetensors that any program loads, tokenizer and chat template included."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, modeling_gguf_pytorch_utils

from cdka.errors import CdkaError

DTYPE = torch.bfloat16
"""Finer than what a quantised file holds, and half the size of float32."""


def convert(file: str, partial: str, folder: str) -> Generator[dict[str, Any], None, str]:
    """Write ``file`` as ``folder``, whole or not at all; yields ``{"phase": "converting", "done", "of"}`` in tensors.

    Raises CdkaError for a file that transformers cannot read.
    """
    messages: SimpleQueue[dict[str, Any] | Exception | None] = SimpleQueue()

    def work() -> None:
        try:
            with _counted(lambda done, of: messages.put({"phase": "converting", "done": done, "of": of})):
                _convert(Path(file), Path(partial))
            messages.put(None)
        except Exception as error:
            messages.put(error)

    Thread(target=work, daemon=True).start()
    try:
        while (message := messages.get()) is not None:
            if isinstance(message, Exception):
                raise _refusal(Path(file), message) from message
            yield message
        if not Path(folder).is_dir():  # another process may have been faster
            Path(partial).rename(folder)
        return folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(file: Path, partial: Path) -> None:
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=DTYPE, quantization_config=GgufConfig(dequantize=True))
    config = loaded.config
    config.architectures = [type(loaded).__name__]
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, name):
            delattr(config, name)
    with torch.device("meta"):
        model = type(loaded)(config)  # transformers refuses to save a model that came from a GGUF file
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(**where).save_pretrained(partial)


@contextmanager
def _counted(report: Callable[[int, int], None]) -> Iterator[None]:
    """Within it, transformers' bar over the tensors of a GGUF file is reported instead of drawn."""

    def bar(tensors: Any, **_options: Any) -> Iterator[Any]:
        tensors = list(tensors)
        for done, tensor in enumerate(tensors, start=1):
            yield tensor
            report(done, len(tensors))

    before = getattr(modeling_gguf_pytorch_utils, "tqdm", None)
    if before is not None:
        modeling_gguf_pytorch_utils.tqdm = bar
    try:
        yield
    finally:
        if before is not None:
            modeling_gguf_pytorch_utils.tqdm = before


def _refusal(file: Path, error: Exception) -> CdkaError:
    reason = " ".join(str(error).split())[:200].rstrip(".")
    return CdkaError(f"{file.name} cannot be read as a GGUF model: {reason}. Give another file.")
