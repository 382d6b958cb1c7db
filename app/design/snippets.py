"""The code that repeats a design: stock PEFT in Python, and the command line. Runs as pasted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from cdka.components import Components
from cdka.models.shapes import ModelShapes
from cdka.models.targets import is_expression, peft_targets
from cdka.tasks.catalogue import TASKS

Targets = str | tuple[str, ...]

_AUTO = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal-lm": "AutoModelForCausalLM",
}
_TASK_KIND = {"seq2seq": "causal-lm"}
"""Models that write with an encoder train on the tasks of those without."""


def python(
    shapes: ModelShapes,
    target_modules: Targets,
    components: Components,
    alpha: float,
    pattern: Mapping[str, Components] | None = None,
    indivisible: str = "error",
) -> str:
    """A snippet that puts this adapter on this model with stock PEFT; ``pattern`` as PEFT's ``rank_pattern`` is."""
    targets = peft_targets(shapes, target_modules)
    written = f'r"{targets}"' if isinstance(targets, str) else json.dumps(targets)
    auto = _AUTO.get(shapes.kind, "AutoModel")
    locate = ["from cdka.train.load_model import locate"] if shapes.embedded else []
    source = f'locate("{shapes.name}")' if shapes.embedded else json.dumps(shapes.hub_id or shapes.name)
    other = {key: list(value.as_tuple()) for key, value in (pattern or {}).items()}
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
            *([f"    component_pattern={other!r},"] if other else []),
            *([f'    indivisible="{indivisible}",'] if indivisible != "error" else []),
            f"    target_modules={written},",
            ")",
            "model = get_peft_model(base, config)",
            "model.print_trainable_parameters()",
        ]
    )


def task_for(shapes: ModelShapes) -> str | None:
    """The first task of the catalogue that this model can train on; None where there is none."""
    kind = _TASK_KIND.get(shapes.kind, shapes.kind)
    fitting = (task.name for task in TASKS.values() if shapes.name in task.models)
    general = (task.name for task in TASKS.values() if not task.models and task.kind == kind)
    return next(fitting, next(general, None))


def command_lines(
    shapes: ModelShapes,
    target_modules: Targets,
    budget: str,
    components: Components,
    pattern: Mapping[str, Components] | None = None,
    indivisible: str = "error",
    measured_on: str = "",
) -> str:
    """The same search, and a run of this option under the recipe of a task that fits, as command lines.

    ``measured_on`` names the task whose gradient was measured, and which is then the one to run on.
    """
    named = target_modules
    if not isinstance(named, str):
        mixed = any(is_expression(name) for name in named)
        named = str(peft_targets(shapes, named)) if mixed else ",".join(named)
    modules = "" if named == "all-linear" else f" --target-modules {shlex.quote(named)}"
    modules += "" if indivisible == "error" else f" --indivisible {indivisible}"
    name = shlex.quote(shapes.name)
    search = f" --from-gradients --task {shlex.quote(measured_on)}" if measured_on else ""
    lines = [f"cdka solve {name} --budget {budget.replace(',', '').replace(' ', '')}{modules}{search}"]
    task = measured_on or task_for(shapes)
    if task is not None:
        other = "".join(f" --pattern {shlex.quote(f'{key}={value}')}" for key, value in (pattern or {}).items())
        lines.append(f"cdka run --model {name} --task {task} --components {components}{modules}{other}")
    return "\n".join(lines)
