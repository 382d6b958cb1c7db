"""Load a model's weights: an embedded model, a local directory, or a Hub id; safetensors only, no remote code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from cdka.errors import CdkaError
from cdka.paths import assets_dir

_AUTO_CLASSES = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}


@dataclass(frozen=True)
class Loaded:
    """A model ready to be adapted. ``fresh_modules`` were not in the checkpoint (a new head) and must be trained."""

    model: PreTrainedModel
    fresh_modules: tuple[str, ...]


def locate(name: str) -> str:
    """Where transformers finds the model: the embedded copy, the directory given, or the Hub id itself."""
    embedded = assets_dir() / name
    if "/" not in name and (embedded / "config.json").is_file():
        return str(embedded)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise CdkaError(
                f"a model directory needs a config.json: none in {name!r}. Give the folder of a saved model."
            )
        return name
    return name


def _without_dropout(config: object) -> None:
    """Runs of all methods train without dropout, so that one seed means one data order and nothing else."""
    for key, value in vars(config).items():
        if isinstance(value, float) and ("dropout" in key or key.endswith("pdrop")):
            setattr(config, key, 0.0)


def load_model(name: str, kind: str, *, dtype: torch.dtype = torch.float32, num_labels: int | None = None) -> Loaded:
    """The pre-trained model for a task of ``kind``, on the CPU. Raises CdkaError when it cannot be had."""
    source = locate(name)
    auto_class = getattr(transformers, _AUTO_CLASSES[kind])
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        _without_dropout(config)
        if num_labels is not None and getattr(config, "num_labels", num_labels) != num_labels:
            config.num_labels = num_labels
        model, report = auto_class.from_pretrained(
            source, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise CdkaError(f"model {name!r} cannot be loaded for {kind}: {_first_sentence(error)}") from error
    fresh = {key.rsplit(".", 1)[0] for key in report["missing_keys"]}
    fresh |= {str(key[0] if isinstance(key, tuple) else key).rsplit(".", 1)[0] for key in report["mismatched_keys"]}
    return Loaded(model, tuple(sorted(fresh)))


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(". ", 1)[0].rstrip(".") + "."
