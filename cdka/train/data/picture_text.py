"""Pictures with texts as tensors, for a model that sees and writes: the model's own processor lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoProcessor

from cdka.errors import CdkaError
from cdka.models.hub import locate
from cdka.tasks.rows import Instruction, PictureTextRows
from cdka.train.data.objectives import Generation, NextToken
from cdka.train.data.ragged import Ragged
from cdka.train.data.splits import PictureInputs, TextSplit
from cdka.train.data.task_data import TaskData
from cdka.train.tokenizer import ModelTokenizer, load_tokenizer

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

MAX_NEW_TOKENS = 128


def picture_text_data(task: PictureTextRows, spec: RunSpec) -> TaskData:
    """The data of captions or questions about pictures; the loss counts the answer only.

    Raises CdkaError for a model that does not see and write, or whose processor cannot be used.
    """
    tokenizer = load_tokenizer(spec.model)
    if tokenizer.kind != "image-text":
        raise CdkaError(
            f"task {spec.task!r} needs a model that sees and writes (LLaVA, SmolVLM and others): got {spec.model!r}, "
            f"which is for {tokenizer.kind}."
        )
    processor = _processor(spec.model)
    splits = {name: _split(rows, task, tokenizer, processor) for name, rows in task.splits.items()}
    longest = max(int(split.target.lengths.max()) for split in splits.values())
    limit = task.max_new_tokens or min(longest, MAX_NEW_TOKENS)
    generation = Generation(limit, (tokenizer.eos_id,), tokenizer.pad_id, tokenizer.decode, task.judge)
    return TaskData(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        objective=NextToken(1, generation, task.scores),
        kind="image-text",
        notes=task.notes,
    )


def _processor(model: str) -> Any:
    try:
        return AutoProcessor.from_pretrained(locate(model), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CdkaError(f"the processor of {model!r} cannot be loaded: {reason}. Save it beside the model.") from None


def _split(rows: Sequence[Instruction], task: PictureTextRows, tokenizer: ModelTokenizer, processor: Any) -> TextSplit:
    sources = []
    for row in rows:
        encoded = processor(images=[task.open(row)], text=_prompt(row.prompt, processor), return_tensors="np")
        sources.append(np.asarray(encoded["input_ids"])[0].tolist())

    def read(chosen: np.ndarray) -> dict[str, torch.Tensor]:
        pictures = [task.open(rows[i]).convert("RGB") for i in chosen]
        return dict(processor.image_processor(pictures, return_tensors="pt"))

    return TextSplit(
        kind="causal-lm",
        source=Ragged.of(sources),
        target=Ragged.of(tokenizer.encode_answers([row.answer for row in rows])),
        ids=np.array([row.id for row in rows], dtype=np.int64),
        pad_id=tokenizer.pad_id,
        references=tuple(row.reference for row in rows),
        pictures=PictureInputs(np.arange(len(rows)), read),
    )


def _prompt(prompt: str, processor: Any) -> str:
    """The prompt with the picture's place in it: by the processor's chat template where it has one."""
    if getattr(processor, "chat_template", None):
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        return processor.apply_chat_template([turn], add_generation_prompt=True)
    return f"{processor.image_token}\n{prompt}\n"
