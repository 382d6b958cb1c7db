"""Ask a fine-tuned model, and what it is compared with, one question: answers are streamed token by token.

``answers`` is meant to run in a child process (``cdka.engine.tryout``), one model at a time in memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import PeftConfig, PeftModel

import cdka.adapter  # noqa: F401  (stock PEFT then knows the method)
from cdka.adapter.pack import cached_factors
from cdka.errors import CdkaError
from cdka.models.locate import locate
from cdka.paths import expanded
from cdka.train.data.objectives import Generation
from cdka.train.data.pictures import preprocess_for
from cdka.train.device import resolve_device
from cdka.train.generate import stream_tokens
from cdka.train.heads import head_labels
from cdka.train.load_model import AUTO_CLASSES, HEAD_SEED
from cdka.train.read_shapes import load_config
from cdka.train.tokenizer import ModelTokenizer, load_tokenizer

BASE = "base"
STREAM_EVERY_S = 0.1
MAX_LABELS = 3
"""A classifier's answer names this many labels, the most probable first."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_HEADS = ("classifier.weight", "score.weight", "out_proj.weight")
_FACTORS = ("cdka_", "lora_", "lokr_")

Answers = Generator[dict[str, Any], None, list[dict[str, Any]]]


def answers(
    models: Sequence[Mapping[str, Any]],
    prompt: str,
    *,
    template: str = "{prompt}",
    chat: bool = True,
    system_prompt: str = "",
    max_new_tokens: int = 128,
    pixels: Sequence[Sequence[float]] | None = None,
    device: str = "auto",
) -> Answers:
    """One answer per model of ``models``: ``{"who", "text", "seconds"}``, in their order; yields the text as it grows.

    A model is ``{"who", "folder"}``: an adapter's folder, a full model's, or, with ``"base": "yes"``, the base of that
    adapter; ``"labels"`` are those of the data that a classifier was trained on, where they are known. A causal model
    or encoder-decoder continues ``template`` with the prompt in it, or the model's own chat template where it has one
    and ``chat`` is set; a classifier names its labels with their probabilities. ``pixels``, rows of numbers from 0 to
    1, are a grey picture in place of the prompt; else an image model takes the prompt as the path of one. Yields
    ``{"who", "text", "seconds"}`` at most every tenth of a second. Raises CdkaError.
    """
    found = []
    place = resolve_device(device)
    held: dict[str, _Answerer] = {}
    for one in models:
        base, adapter = _base_of(Path(one["folder"]))
        if base not in held:
            held.clear()  # one base at a time in memory
            held[base] = _Answerer(base, Path(one["folder"]), place)
        answerer = held[base]
        started = time.monotonic()
        stream = answerer.answer(
            None if one.get("base") else adapter,
            prompt,
            template=template,
            chat=chat,
            system_prompt=system_prompt,
            max_new_tokens=max_new_tokens,
            pixels=pixels,
            labels=one.get("labels", ()),
            own_head=bool(one.get("base")),
        )
        text, sent_at = "", 0.0
        for text in stream:
            seconds = time.monotonic() - started
            if seconds - sent_at >= STREAM_EVERY_S:
                sent_at = seconds
                yield {"who": one["who"], "text": text, "seconds": round(seconds, 3)}
        found.append({"who": one["who"], "text": text, "seconds": round(time.monotonic() - started, 3)})
        yield found[-1]
    return found


def load_adapter(folder: str | Path, *, device: str = "cpu") -> torch.nn.Module:
    """The model of an adapter's folder, ready to answer: a PeftModel on its base, or the full model that lies there.

    Raises CdkaError for a folder that holds neither.
    """
    base, adapter = _base_of(Path(folder))
    answerer = _Answerer(base, Path(folder), resolve_device(device))
    if adapter is not None:
        answerer.use(adapter)
    return answerer.model


def _base_of(folder: Path) -> tuple[str, Path | None]:
    """(base model, adapter folder) of an adapter's folder; a full model is its own base. Raises CdkaError."""
    config = folder / "adapter_config.json"
    if config.is_file():
        base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
        if not base:
            raise CdkaError(f"an adapter must name its base model: {config.name} in {str(folder)!r} does not.")
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise CdkaError(
                f"an adapter's weights are read from {ADAPTER_WEIGHTS} alone, since other formats can run code: there "
                f"is none in {str(folder)!r}. Save it again with save_pretrained."
            )
        return str(base), folder
    if (folder / "config.json").is_file():
        return str(folder), None
    raise CdkaError(f"a folder must hold an adapter or a model: got {str(folder)!r}. Give a run's adapter folder.")


class _Answerer:
    """One base model with the adapters that were asked so far."""

    def __init__(self, base: str, first: Path, device: torch.device) -> None:
        self.base, self.device, self._first = base, device, first
        self.tokenizer: ModelTokenizer = load_tokenizer(base)
        self.model = self._plain()
        self.names: dict[Path, str] = {}

    def _plain(self) -> torch.nn.Module:
        """The base without any adapter, with a head of as many labels as the adapters have."""
        labels = _head_size(self._first)
        config = load_config(locate(self.base))
        if labels:
            config.num_labels = labels
        maker = getattr(transformers, AUTO_CLASSES[self.kind(self._first)])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(HEAD_SEED)
            model = maker.from_pretrained(
                locate(self.base),
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=bool(labels),
            )
        return model.to(self.device).eval()

    def kind(self, folder: Path) -> str:
        """The kind of the model: that of the adapter's training, where its configuration names it."""
        if self.tokenizer.kind in ("causal-lm", "text-classification") and _head_size(folder):
            return "text-classification"
        return self.tokenizer.kind

    def use(self, adapter: Path | None) -> AbstractContextManager:
        """Within it, the model answers with the adapter, or without any."""
        if adapter is None:
            return self.model.disable_adapter() if isinstance(self.model, PeftModel) else nullcontext()
        if adapter not in self.names:
            known = {config.peft_type for config in getattr(self.model, "peft_config", {}).values()}
            if known - {PeftConfig.from_pretrained(str(adapter)).peft_type}:
                # PEFT holds adapters of one type at a time, and taking them out would leave their head in the base
                del self.model  # one base at a time in memory
                self.model, self.names = self._plain(), {}
            name = f"adapter{len(self.names)}"
            if isinstance(self.model, PeftModel):
                self.model.load_adapter(str(adapter), adapter_name=name)
            else:
                self.model = PeftModel.from_pretrained(self.model, str(adapter), adapter_name=name).eval()
            self.names[adapter] = name
        self.model.set_adapter(self.names[adapter])
        return nullcontext()

    def answer(self, adapter: Path | None, prompt: str, **asked: Any) -> Generator[str, None, None]:
        """The answer as it grows."""
        inside = self.use(adapter)
        plain = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        with inside, cached_factors(plain):
            if hasattr(plain, "generate") and self.tokenizer.kind in ("causal-lm", "seq2seq") and plain.can_generate():
                yield from self._generated(plain, prompt, asked)
            else:
                yield self._classified(prompt, asked)

    def _generated(self, plain: torch.nn.Module, prompt: str, asked: Mapping[str, Any]) -> Generator[str, None, None]:
        tokenizer = self.tokenizer
        ends = [tokenizer.eos_id]
        if asked["chat"] and tokenizer.has_chat_template:
            first = [("system", asked["system_prompt"])] if asked["system_prompt"] else []
            (tokens,) = tokenizer.encode_conversations([[*first, ("user", prompt)]])
            ends.append(tokenizer.end_of_turn_id)
        else:
            before = f"{asked['system_prompt']}\n\n" if asked["system_prompt"] else ""
            (tokens,) = tokenizer.encode_prompts([before + asked["template"].replace("{prompt}", prompt)])
        if not tokens:
            raise CdkaError("a prompt must hold text: got none. Type a question.")
        ids = torch.tensor([tokens], device=self.device)
        how = Generation(
            asked["max_new_tokens"], tuple(dict.fromkeys(ends)), tokenizer.pad_id, tokenizer.decode, lambda *_: None
        )
        made: list[int] = []
        for step in stream_tokens(plain, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, how):
            made += step
            yield tokenizer.decode([made])[0]

    @torch.no_grad()
    def _classified(self, prompt: str, asked: Mapping[str, Any]) -> str:
        if asked["pixels"] is not None:
            grey = np.asarray(asked["pixels"], dtype=np.float32)
            inputs = {"pixel_values": torch.from_numpy(grey * 2.0 - 1.0)[None, None]}
        elif self.tokenizer.kind == "image-classification":
            inputs = {"pixel_values": torch.from_numpy(_picture(self.base, prompt))[None]}
        else:
            encoded = self.tokenizer.hf_tokenizer([prompt], truncation=True, return_tensors="pt")
            inputs = dict(encoded)
        logits = self.model(**{name: values.to(self.device) for name, values in inputs.items()}).logits[0]
        shares = logits.float().softmax(-1)
        best = shares.argsort(descending=True)[:MAX_LABELS].tolist()
        head = head_labels(self.model.config, asked["labels"])
        others = asked["own_head"] and head.note and not head.kept  # the base's own head knows other labels
        names = self.model.config.id2label if others or not head.names else dict(enumerate(head.names))
        return ", ".join(f"{_label(names, i)} {shares[i]:.0%}" for i in best)


def _label(names: Mapping[int, str], number: int) -> str:
    name = names.get(number, str(number))
    return str(number) if name == f"LABEL_{number}" else name


def _picture(base: str, path: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(expanded(path)) as image:
            return preprocess_for(base)([image])[0]
    except (OSError, ValueError) as error:
        raise CdkaError(f"an image model takes the path of a picture: got {path[:200]!r} ({error}).") from None


def _head_size(folder: Path) -> int | None:
    """The number of labels of the head trained with an adapter; None where none was, and for full models."""
    from safetensors import safe_open

    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        return None
    with safe_open(file, "pt") as tensors:
        keys = list(tensors.keys())
        heads = [key for key in keys if key.endswith(_HEADS) and not any(part in key for part in _FACTORS)]
        return tensors.get_slice(heads[0]).get_shape()[0] if heads else None
