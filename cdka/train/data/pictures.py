"""Pictures, and pictures with texts, as tensors: small ones kept in memory, others opened when a batch needs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import AutoImageProcessor, AutoProcessor

from cdka.errors import CdkaError
from cdka.models.locate import locate
from cdka.models.shapes import takes_pictures
from cdka.tasks.own_metric import by_name
from cdka.tasks.pixels import BILINEAR, Pixels, upright, with_channels
from cdka.tasks.rows import Instruction, PictureRows, PictureSplit, PictureTextRows, PixelRows
from cdka.tasks.scores import together
from cdka.train.data.objectives import Classification, Generation, NextToken
from cdka.train.data.splits import LazySplit, PictureInputs, Ragged, Split, TaskData, TextSplit
from cdka.train.heads import head_labels
from cdka.train.read_shapes import load_config
from cdka.train.tokenizer import ModelTokenizer, load_tokenizer

if TYPE_CHECKING:
    from PIL.Image import Image

    from cdka.runs.spec import RunSpec

Preprocess = Callable[[Sequence["Image"]], np.ndarray]
"""Pictures as the model's input: (n, channels, height, width) in float32."""
SETTINGS = "preprocessor_config.json"
_ABOUT = ("image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys", "auto_map")
"""Keys of the file that are no settings of the preprocessing."""


def pixel_data(task: PixelRows) -> TaskData:
    """Pictures that are arrays already: ``pixel_values`` (n, channels, height, width), labels (n,)."""
    splits = {
        name: Split({"pixel_values": torch.from_numpy(part.pixels)}, torch.from_numpy(part.labels), part.ids)
        for name, part in task.splits.items()
    }
    return TaskData(objective=Classification(), num_labels=task.num_labels, notes=task.notes, **splits)


def picture_data(task: PictureRows, spec: RunSpec) -> TaskData:
    """Pictures prepared as the run's model wants them. Raises CdkaError for a model that does not take pictures."""
    preprocess = preprocess_for(spec.model)
    head = head_labels(load_config(locate(spec.model)), task.label_names)
    numbers = [head.names.index(name) for name in task.label_names]
    splits = {name: _lazy(part, preprocess, numbers) for name, part in task.splits.items()}
    return TaskData(
        objective=Classification(together(task.scores, by_name(task.named_scores, head.names))),
        num_labels=len(head.names),
        notes=(*task.notes, *filter(None, [head.note])),
        label_names=head.names,
        **splits,
    )


def _lazy(part: PictureSplit, preprocess: Preprocess, numbers: Sequence[int]) -> LazySplit:
    def read(chosen: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.from_numpy(preprocess([part.open(i) for i in chosen.tolist()]))}

    return LazySplit(torch.tensor([numbers[label] for label in part.labels], dtype=torch.long), part.ids, read)


def preprocess_for(model: str) -> Preprocess:
    """The preprocessing of the model called ``model``: transformers' own, as its preprocessor_config.json says.

    Without that file: squares of the model's image size, scaled to [-1, 1]. Every picture is upright, 8 bits a channel
    and has the model's number of channels. Raises CdkaError for a model that does not take pictures, for a setting
    that its image processor does not know, and for pictures that cannot be made into its input.
    """
    folder = locate(model)
    config = load_config(folder)
    vision = getattr(config, "vision_config", None) or config
    if not takes_pictures(config.to_dict()):
        raise CdkaError(f"an image task needs a model that takes pictures: got {model!r} ({config.model_type}).")
    channels = int(getattr(vision, "num_channels", None) or 3)
    if not (folder / SETTINGS).is_file():
        half = (0.5,) * channels
        pixels = Pixels(_sides(getattr(vision, "image_size", 224)), None, None, BILINEAR, 1 / 255, half, half, channels)
        return lambda pictures: np.stack([pixels.array(picture) for picture in pictures])
    processor = _processor(folder, model)

    def preprocess(pictures: Sequence[Image]) -> np.ndarray:
        ready = [with_channels(upright(picture), channels) for picture in pictures]
        try:
            return np.asarray(processor(ready, return_tensors="np")["pixel_values"], dtype=np.float32)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CdkaError(
                f"{SETTINGS} of {model!r} does not make its input of these pictures: {reason}. Correct its settings."
            ) from None

    return preprocess


def _sides(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    return int(size[0]), int(size[1])


def _processor(folder: Path, model: str) -> Any:
    """transformers' image processor (the one that needs Pillow alone). Raises CdkaError for an unknown setting."""
    try:
        given = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        kind = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
        # Before transformers 4.27 the class was called a feature extractor.
        renamed = getattr(transformers, kind.replace("FeatureExtractor", "ImageProcessorPil"), None)
        if "FeatureExtractor" in kind and renamed is not None:
            loaded = renamed.from_pretrained(folder, local_files_only=True)
        else:
            loaded = AutoImageProcessor.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, backend="pil"
            )
    except (ValueError, TypeError, AttributeError, OSError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CdkaError(f"{SETTINGS} of {model!r} cannot be used: {reason}. Save it again with transformers.") from None
    known = {*type(loaded).valid_kwargs.__annotations__, *dir(type(loaded)), *_ABOUT}
    for base in type(loaded).valid_kwargs.__mro__:
        known |= set(getattr(base, "__annotations__", ()))
    strange = [name for name in given if name not in known]
    if strange:
        raise CdkaError(
            f"{SETTINGS} of {model!r} has settings that {type(loaded).__name__} does not know: {', '.join(strange)}. "
            "Remove them, or give the image processor that they are for."
        )
    return loaded


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
    processor = _text_processor(spec.model)
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


def _text_processor(model: str) -> Any:
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
