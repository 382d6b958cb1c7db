"""The flags that describe a run, shared by the commands that take them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from cdka.components import INIT_WEIGHTS, SCALING_RULES, Components
from cdka.errors import CdkaError
from cdka.runs.spec import DTYPES, FIELD_NAMES, METHODS, SCHEDULES

_NUMBERS: tuple[tuple[str, type, str], ...] = (
    ("rank", int, "rank for lora, dora and lokr"),
    ("lokr-factor", int, "how LoKr splits each dimension (-1: near its square root)"),
    ("alpha", float, "alpha; the scaling is alpha / sqrt(r r2)"),
    ("lr", float, "peak learning rate"),
    ("steps", int, "optimiser steps"),
    ("batch-size", int, "samples per step"),
    ("seed", int, "fixes the data order and the initialisation"),
    ("eval-every", int, "steps between two looks at the validation data"),
    ("warmup-ratio", float, "share of the steps in which the learning rate rises"),
    ("weight-decay", float, "weight decay of AdamW"),
    ("max-grad-norm", float, "gradient clipping"),
    ("gradient-accumulation", int, "parts a batch is split into, to save memory"),
    ("num-processes", int, "processes that share each batch, one per GPU (several GPUs of this machine)"),
    ("checkpoint-every", int, "steps between checkpoints that a retry resumes from (0: none)"),
    ("max-length", int, "longest sequence in tokens"),
)
_CHOICES = (
    ("method", METHODS, "what is trained"),
    ("scaling-rule", SCALING_RULES, "how alpha becomes the scaling"),
    ("init-weights", INIT_WEIGHTS, "how the factors of cdka start"),
    ("schedule", SCHEDULES, "learning rate after the warm-up"),
    ("dtype", DTYPES, "precision of the base model (int8 and nf4 need bitsandbytes)"),
)


def add_spec_arguments(parser: argparse.ArgumentParser, *, without: Sequence[str] = ()) -> None:
    """Add a flag for every setting of a run but those named in ``without``; unset ones are None."""
    add = parser.add_argument
    for name, choices, text in _CHOICES:
        if name not in without:
            add(f"--{name}", metavar="NAME", help=f"{text}: {', '.join(choices)}")
    if "components" not in without:
        add("--components", metavar="R1,R2,R", help="r1 divides the outputs, r2 the inputs; r components: 2,8,4")
        add("--pattern", metavar="MODULE=R1,R2,R", action="append", help="other components for one kind of module")
    add("--target-modules", metavar="NAMES", help="all-linear (default), attention, mlp, or names: q_proj,v_proj")
    for name, kind, text in _NUMBERS:
        if name not in without:
            add(f"--{name}", type=kind, metavar="N", help=text)
    add("--gradient-checkpointing", action="store_true", default=None, help="compute activations twice, keep fewer")
    add("--device", metavar="NAME", help="auto (default), cpu, or cuda:0")
    add("--task-option", metavar="KEY=VALUE", action="append", help="a setting of the task; may be repeated")


def spec_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, for ``cdka.runs.spec.resolve``. Raises CdkaError."""
    given = {key: value for key, value in vars(args).items() if key in FIELD_NAMES and value is not None}
    given.pop("model", None), given.pop("task", None)
    names = given.get("target_modules")
    if isinstance(names, str) and "," in names:
        given["target_modules"] = tuple(name.strip() for name in names.split(","))
    if getattr(args, "pattern", None):
        pairs = [_pair(text, "--pattern", "q_proj=2,8,4") for text in args.pattern]
        given["component_pattern"] = {name: Components.parse(value) for name, value in pairs}
    if args.task_option:
        given["task_options"] = dict(_pair(text, "--task-option", "split=train") for text in args.task_option)
    return given


def seeds(text: str) -> int | list[int]:
    """The value of ``--seeds``: a number of seeds, or the seeds themselves where there is a comma.

    One seed alone is written with a comma behind it: ``7,``.
    """
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise CdkaError(f"--seeds takes a number of seeds or a list: got {text!r}. Example: --seeds 3.") from None
    if len(set(numbers)) < len(numbers):
        raise CdkaError(f"--seeds takes each seed once: got {text!r}. Example: --seeds 0,1,2.")
    return numbers if "," in text else numbers[0]


def _pair(text: str, flag: str, example: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise CdkaError(f"{flag} takes NAME=VALUE: got {text!r}. Example: {flag} {example}")
    return name, value
