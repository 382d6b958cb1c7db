"""The code that repeats a design: stock PEFT in Python, and the command line."""

from __future__ import annotations

import json

from cdka.components import Components
from cdka.models.shapes import ModelShapes
from cdka.models.targets import peft_targets

_AUTO = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal-lm": "AutoModelForCausalLM",
}


def python(shapes: ModelShapes, target_modules: str, components: Components, alpha: float) -> str:
    """A snippet that puts this adapter on this model with stock PEFT."""
    targets = peft_targets(shapes, target_modules)
    written = f'r"{targets}"' if isinstance(targets, str) else json.dumps(targets)
    auto = _AUTO.get(shapes.kind, "AutoModel")
    locate = ["from cdka.models.loading import locate"] if shapes.embedded else []
    source = f'locate("{shapes.name}")' if shapes.embedded else f'"{shapes.hub_id or shapes.name}"'
    return "\n".join(
        [
            f"from transformers import {auto}",
            "from peft import get_peft_model",
            "from cdka import CdkaConfig",
            *locate,
            "",
            f"base = {auto}.from_pretrained({source})",
            "config = CdkaConfig(",
            f"    r1={components.r1}, r2={components.r2}, r={components.r}, alpha={alpha:g},",
            f"    target_modules={written},",
            ")",
            "model = get_peft_model(base, config)",
            "model.print_trainable_parameters()",
        ]
    )


def command_lines(shapes: ModelShapes, target_modules: str, budget: str, components: Components) -> str:
    """The same search and one run of this option as command lines."""
    modules = "" if target_modules == "all-linear" else f" --target-modules {target_modules}"
    return "\n".join(
        [
            f"cdka solve {shapes.name} --budget {budget.replace(',', '')}{modules}",
            f"cdka run --model {shapes.name} --task TASK --components {components}{modules}",
        ]
    )
