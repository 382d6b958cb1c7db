"""Load a model's weights: an embedded model, a local directory, or a Hub id; safetensors only, no remote code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import logging

from cdka.errors import CdkaError
from cdka.models.locate import locate
from cdka.train.heads import CLASSIFIER_ENDINGS, HEAD_NAMES, head_labels, name_outputs
from cdka.train.read_shapes import load_config
from cdka.train.tokenizer import ModelTokenizer, load_tokenizer

AUTO_CLASSES = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "image-text": "AutoModelForImageTextToText",
}
HEADED = ("image-classification", "text-classification")
_LAYER = re.compile(r"\.(layers?|blocks?|h|stages)\.\d+\.")
HEAD_SEED = 2602
"""A new head starts the same in every run, like the rest of the base: seeds, methods and packs stay comparable."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to be adapted. ``fresh_modules`` were not in the checkpoint (a new head) and must be trained."""

    model: PreTrainedModel
    fresh_modules: tuple[str, ...]


@contextmanager
def _quietly() -> Iterator[None]:
    """Filter of transformers' reports on a checkpoint, which are given in our own words."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _without_dropout(config: object) -> None:
    """Runs of all methods train without dropout: one seed means one data order and nothing else, and a run in a
    pack equals the same run alone."""
    for key, value in vars(config).items():
        if isinstance(value, float) and ("dropout" in key or key.endswith("pdrop")):
            setattr(config, key, 0.0)
        elif key.endswith("_config") and hasattr(value, "to_dict"):
            _without_dropout(value)


def _quantized(quantization: str | None, dtype: torch.dtype, device: torch.device | None) -> dict[str, Any]:
    """The arguments that load the base in 8 or 4 bits; raises CdkaError where bitsandbytes is missing."""
    if quantization is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise CdkaError(
            f"a base in {quantization} needs bitsandbytes, which is not installed. Run: pip install bitsandbytes; or "
            "use dtype auto."
        )
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_8bit=quantization == "int8",
        load_in_4bit=quantization == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": settings, "device_map": {"": str(device or "cpu")}}


def load_model(
    name: str,
    kind: str,
    *,
    dtype: torch.dtype = torch.float32,
    num_labels: int | None = None,
    label_names: Sequence[str] = (),
    quantization: str | None = None,
    device: torch.device | None = None,
) -> Loaded:
    """The pre-trained model for a task of ``kind``, on the CPU (quantized: on ``device``).

    ``quantization`` is None, ``int8`` or ``nf4``. ``num_labels`` replaces the head of a classifier that has another
    number of labels, ``label_names`` (in the order of the outputs) one that knows other labels. Raises CdkaError, in
    one line, when the model cannot be had, is broken, is not for this kind of task, or has no weights for it.
    """
    folder = str(locate(name))
    if not any(Path(folder).glob("*.safetensors")):
        raise CdkaError(
            f"model {name!r} has no weights in safetensors, and other formats can run code: not loaded. "
            "Save it again with save_pretrained."
        )
    try:
        config = load_config(folder)
        _without_dropout(config)
        made, config, renamed = _class_for(config, kind)
        replaced = _fit_head(config, name, kind, num_labels, label_names)
        with _quietly(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(HEAD_SEED)
            model, report = made.from_pretrained(
                folder,
                config=config,
                key_mapping=renamed,
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=num_labels is not None,
                **_quantized(quantization, dtype, device),
            )
    except CdkaError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, ImportError) as error:
        raise CdkaError(f"model {name!r} cannot be loaded for {kind}: {_reason(error, kind)}") from error
    fresh = _fresh_modules(model, report, name, kind)
    return Loaded(model, _with_new_head(model, name, fresh) if replaced else fresh)


_TOWERS = {"clip_vision_model": "CLIP", "siglip_vision_model": "Siglip", "siglip2_vision_model": "Siglip2"}
"""Vision towers saved by themselves, and the family whose classifier is made of one."""


def _class_for(config: Any, kind: str) -> tuple[Any, Any, dict[str, str] | None]:
    """(the class to load, its configuration, and the renaming of a vision tower's weights to those of its family)."""
    family = _TOWERS.get(config.model_type) if kind == "image-classification" else None
    if family is None:
        return getattr(transformers, AUTO_CLASSES[kind]), config, None
    whole = getattr(transformers, f"{family}Config")(vision_config=config.to_dict())
    whole.architectures = config.architectures
    return getattr(transformers, f"{family}ForImageClassification"), whole, {r"^(?!vision_model\.)": "vision_model."}


def _with_new_head(model: PreTrainedModel, name: str, fresh: tuple[str, ...]) -> tuple[str, ...]:
    """Starts the head anew, as transformers starts one; returns the modules to train. Raises CdkaError without one."""
    heads = [path for path, _ in model.named_children() if path in HEAD_NAMES]
    if not heads:
        raise CdkaError(
            f"model {name!r} is a classifier with other labels, and its head cannot be told from the rest. Give the "
            "model it was made from."
        )
    spread = getattr(model.config, "initializer_range", None) or 0.02
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(HEAD_SEED)
        for module in (part for path in heads for part in model.get_submodule(path).modules()):
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, spread)
                if module.bias is not None:
                    module.bias.zero_()
    return tuple(sorted({*fresh, *heads}))


def _fit_head(config: Any, name: str, kind: str, num_labels: int | None, label_names: Sequence[str]) -> bool:
    """Sets the number and names of the outputs; returns True where the checkpoint's own head is to be replaced."""
    replaced = False
    if kind in HEADED:
        is_classifier = (config.architectures or [""])[0].endswith(CLASSIFIER_ENDINGS)
        replaced = is_classifier and bool(label_names) and not head_labels(config, label_names).kept
        if num_labels is not None and config.num_labels != num_labels:
            config.num_labels = num_labels
        if label_names:
            name_outputs(config, label_names)
    if kind == "text-classification" and config.pad_token_id is None:
        config.pad_token_id = load_tokenizer(name).pad_id  # a decoder's head reads the last token before the padding
    return replaced


def _fresh_modules(model: PreTrainedModel, report: dict[str, Any], name: str, kind: str) -> tuple[str, ...]:
    """The modules that the checkpoint did not hold: a new head, and nothing but a head.

    Raises CdkaError where more than that is missing: the checkpoint is not one of this architecture.
    """
    mismatched = {key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]}
    missing = {str(key) for key in (*report["missing_keys"], *mismatched)}
    backbone = f"{model.base_model_prefix}."
    outside = {key for key in missing if not key.startswith(backbone) and not _LAYER.search(key)}
    poolers = {key for key in missing - outside if ".pooler." in key}
    lost = sorted(missing - outside - poolers)
    if lost or (outside and kind in ("causal-lm", "seq2seq", "image-text")):
        first = (lost or sorted(outside))[0]
        raise CdkaError(
            f"model {name!r} lacks weights for {kind}: {len(lost or outside)} tensors, the first is {first!r}. "
            "Choose a checkpoint made for it."
        )
    return tuple(sorted({_module_of(key) for key in outside | poolers}))


def _module_of(key: str) -> str:
    """The path PEFT can train whole: the head's top module, or the pooler inside the backbone."""
    if ".pooler." in key:
        return key[: key.index(".pooler.") + len(".pooler")]
    return key.split(".", 1)[0]


def _reason(error: Exception, kind: str) -> str:
    text = " ".join(str(error).split())
    if "Unrecognized configuration class" in text:
        found = re.search(r"configuration_\w+\.(\w+)Config", text)
        family = f" ({found[1]})" if found else ""
        return f"its architecture{family} has no form for {kind}. Choose a model of that kind."
    if isinstance(error, SafetensorError):
        return f"its weights are damaged ({text[:120]}). Fetch or save it again."
    return text[:240].split(". ", 1)[0].rstrip(".") + "."


__all__ = ["AUTO_CLASSES", "Loaded", "ModelTokenizer", "load_model", "load_tokenizer", "locate"]
