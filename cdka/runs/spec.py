"""The specification of one run: everything needed to repeat it, validated on construction. Free of torch."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any

from cdka.components import INDIVISIBLE, INIT_WEIGHTS, PAPER_DEFAULT, SCALING_RULES, Components, scaling
from cdka.errors import CdkaError, unknown
from cdka.paths import pasted

METHODS = ("cdka", "lora", "lokr", "dora", "full")
QUANTIZED = ("int8", "nf4")
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64", *QUANTIZED)
"""Precision of the frozen base; the quantized ones (8 and 4 bits) need bitsandbytes."""
SCHEDULES = ("cosine", "constant")
OVERLONG = ("cut", "drop")
CHAT_TEMPLATES = ("auto", "plain")
TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
ALL, AUTO = "all", "auto"
"""Words in place of a number of examples; ``auto`` keeps judging under a quarter of the training time."""
LOCAL = "local"
"""The engine of this machine; the others are addresses of clusters: ``ray:HOST:PORT``, ``ray://HOST:PORT``."""
ENGINE_VARIABLE = "CDKA_ENGINE"
"""The environment variable that names the engine of runs which name none."""
_CLUSTER = re.compile(r"ray:(//)?([\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")
GUESSED_LENGTH = 512
"""The length in tokens that estimates take where ``max_length`` is left to the data."""
SHARED = (
    "model",
    "task",
    "batch_size",
    "steps",
    "max_length",
    "overlong",
    "group_by_length",
    "chat_template",
    "system_prompt",
    "eval_examples",
    "generate_examples",
    "test_examples",
    "patience",
    "retain",
    "dtype",
    "device",
    "engine",
    "eval_every",
    "gradient_accumulation",
    "gradient_checkpointing",
    "checkpoint_every",
    "num_processes",
    "task_options",
)
"""The settings in which runs must agree to train together over one base."""
_WITH_RANK = ("lora", "lokr", "dora")


def setting(default: Any, help: str, **facts: Any) -> Any:
    """A field of RunSpec: its default (a factory where it is callable), help text, and allowed values.

    ``facts`` are ``choices``, ``least``, ``above`` and ``below`` for its values, ``words`` that stand in place of a
    number; ``flag`` and ``metavar`` where the command line does not take the field's own name and NAME or N; ``asks``
    words that ``resolve.spec_for`` turns into a value. Flags, plan files and checks are derived from them.
    """
    start = {"default_factory": default} if callable(default) else {"default": default}
    return field(**start, metadata={"help": help, **facts})


@dataclass(frozen=True)
class RunSpec:
    """One run: a method with its components or rank, one seed, on one model and task.

    ``components`` belongs to cdka, ``rank`` to lora, dora and lokr; full fine-tuning takes neither.
    ``lokr_factor`` is PEFT's ``decompose_factor``: -1 splits each dimension near its square root.
    ``seed`` fixes the data order and the adapter's initialisation. ``lr`` is the peak learning rate, reached
    after ``warmup_ratio * steps`` steps. ``eval_every`` is in steps. ``target_modules`` is ``"all-linear"`` (every
    linear layer but the head and the embeddings), ``"attention"``, ``"mlp"``, or names as PEFT matches them.
    ``component_pattern`` overrides the components per module, keyed as PEFT's ``rank_pattern`` is.
    ``indivisible``: a module that r1 or r2 does not divide is an error, left out, or gets the nearest that divide it.
    ``init_weights`` is cdka's: ``kaiming``, ``gradient`` (one batch's, before the first step) or ``random``.
    ``max_length`` is in tokens; ``"auto"``: 99 of 100 training examples fit, within the model's positions. Longer
    ones are cut, or with ``overlong="drop"`` left out. ``chat_template="auto"`` lays conversations out by the model's
    own template where it has one, ``"plain"`` never. ``eval_examples`` are judged at each look at the validation
    split, ``generate_examples`` of them on an answer that the model generates, ``test_examples`` at the end
    (``cdka.train.judging``). ``patience`` looks without a better one end the run, which then reports its best.
    ``engine`` is where it runs: this machine, or a cluster; it changes no number. Raises CdkaError for any value
    outside its range.

    >>> cdka.RunSpec("digits-vit", "digits-flip", components="2,8,1").label
    'cdka 2,8,1'
    """

    model: str
    task: str
    method: str = setting("cdka", "what is trained", choices=METHODS)
    components: Components | None = setting(
        None, "r1 divides the outputs, r2 the inputs; r components: 2,8,4", metavar="R1,R2,R"
    )
    rank: int | None = setting(None, "rank for lora, dora and lokr")
    lokr_factor: int = setting(-1, "how LoKr splits each dimension (-1: near its square root)")
    alpha: float = setting(64.0, "alpha; the scaling is alpha / sqrt(r r2)", above=0)
    scaling_rule: str = setting("sqrt_r_r2", "how alpha becomes the scaling", choices=SCALING_RULES)
    target_modules: str | tuple[str, ...] = setting(
        "all-linear", "all-linear (default), attention, mlp, or names: q_proj,v_proj", metavar="NAMES"
    )
    component_pattern: Mapping[str, Components] = setting(
        dict, "other components for one kind of module", flag="pattern", metavar="MODULE=R1,R2,R"
    )
    indivisible: str = setting("error", "what becomes of a module that r1 or r2 does not divide", choices=INDIVISIBLE)
    init_weights: str = setting("kaiming", "how the factors of cdka start", choices=INIT_WEIGHTS)
    lr: float = setting(1e-3, "peak learning rate", above=0, asks=(AUTO,))
    steps: int = setting(200, "optimiser steps", least=1)
    batch_size: int = setting(64, "samples per step", least=1)
    seed: int = setting(0, "fixes the data order and the initialisation", least=0)
    eval_every: int = setting(20, "steps between two evaluations on the validation data", least=1)
    schedule: str = setting("cosine", "learning rate after the warm-up", choices=SCHEDULES)
    warmup_ratio: float = setting(0.03, "share of the steps in which the learning rate rises", least=0, below=1.0)
    weight_decay: float = setting(5e-4, "weight decay of AdamW", least=0, below=math.inf)
    max_grad_norm: float = setting(1.0, "gradient clipping", above=0)
    gradient_accumulation: int = setting(1, "parts a batch is split into, to save memory", least=1)
    gradient_checkpointing: bool = setting(False, "compute activations twice, keep fewer")
    checkpoint_every: int = setting(0, "steps between checkpoints that a retry resumes from (0: none)", least=0)
    num_processes: int = setting(
        1, "processes that share each batch, one per GPU (several GPUs of this machine)", least=1
    )
    max_length: int | str = setting(
        512, "longest sequence in tokens (auto: 99 of 100 training examples fit)", least=1, words=(AUTO,)
    )
    overlong: str = setting("cut", "what becomes of longer training examples", choices=OVERLONG)
    group_by_length: bool = setting(False, "make batches of examples of similar length")
    chat_template: str = setting("plain", "layout of conversations (auto: the model's own)", choices=CHAT_TEMPLATES)
    system_prompt: str = setting("", "opens every conversation", metavar="TEXT")
    eval_examples: int | str = setting(
        ALL, "validation examples judged at each look, the same ones for all runs", least=1, words=(ALL, AUTO)
    )
    generate_examples: int | str = setting(ALL, "of these, how many get a generated answer", least=0, words=(ALL, AUTO))
    test_examples: int | str = setting(ALL, "test examples judged at the end", least=1, words=(ALL, AUTO))
    patience: int = setting(0, "looks without a better one that end a run (0: never)", least=0)
    retain: str = setting("", "a task or text file that is judged before and after", metavar="TASK|FILE")
    report_to: str = setting("", "an experiment tracker that gets losses and metrics too", choices=("", *TRACKERS))
    dtype: str = setting("auto", "precision of the base model (int8 and nf4 need bitsandbytes)", choices=DTYPES)
    device: str = setting("auto", "auto (default), cpu, or cuda:0")
    engine: str = setting(
        LOCAL,
        "where it runs: local, or a Ray cluster as ray:HOST:PORT or ray://HOST:PORT (auto: CDKA_ENGINE, else local)",
        metavar="local|ray:ADDRESS",
    )
    task_options: Mapping[str, Any] = setting(
        dict, "a setting of the task; may be repeated", flag="task-option", metavar="KEY=VALUE"
    )

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            object.__setattr__(self, "model", pasted(self.model))
        for one in fields(self):
            _check_value(one, getattr(self, one.name))
        if self.engine == AUTO:
            object.__setattr__(self, "engine", os.environ.get(ENGINE_VARIABLE) or LOCAL)
        check_engine(self.engine)
        if self.seed >= MAX_SEED:
            raise CdkaError(f"seed must be below 2**63: got {self.seed}.")
        if self.method == "full" and self.dtype in QUANTIZED:
            raise CdkaError(
                f"full fine-tuning trains the base itself, which {self.dtype} freezes: got dtype={self.dtype!r}. Use "
                "auto, or train an adapter."
            )
        if self.init_weights == "gradient" and self.dtype in QUANTIZED:
            raise CdkaError(
                f"init_weights gradient differentiates the base weights, which {self.dtype} has packed: got "
                f"dtype={self.dtype!r}. Use kaiming, or dtype auto."
            )
        if self.method != "cdka":
            object.__setattr__(self, "init_weights", "kaiming")  # the others have one start, PEFT's
            object.__setattr__(self, "indivisible", "error")  # and divide nothing
        if 1 < self.num_processes > self._smallest_part:
            raise CdkaError(
                f"each process needs an example of every part of a batch: got batch_size={self.batch_size} for "
                f"num_processes={self.num_processes}, gradient_accumulation={self.gradient_accumulation}. Raise it to "
                f"{self.num_processes * self.gradient_accumulation}."
            )
        if self.components is not None and not isinstance(self.components, Components):
            object.__setattr__(self, "components", Components.parse(self.components))
        if self.method == "cdka" and self.components is None:
            object.__setattr__(self, "components", PAPER_DEFAULT)
        if self.method != "cdka" and self.components is not None:
            raise CdkaError(f"components belong to method cdka: got components={self.components} for {self.method!r}.")
        if self.method in _WITH_RANK and self.rank is None:
            object.__setattr__(self, "rank", 8)
        if self.rank is not None and (self.method not in _WITH_RANK or not isinstance(self.rank, int) or self.rank < 1):
            raise CdkaError(
                f"rank must be a positive integer, for {', '.join(_WITH_RANK)} only: "
                f"got rank={self.rank!r} for {self.method!r}."
            )
        if not isinstance(self.target_modules, str):
            object.__setattr__(self, "target_modules", tuple(self.target_modules))
        pattern = {name: Components.parse(value) for name, value in self.component_pattern.items()}
        object.__setattr__(self, "component_pattern", pattern)

    @property
    def _smallest_part(self) -> int:
        """Examples in the smallest of the parts that ``gradient_accumulation`` splits a batch into."""
        part = -(-self.batch_size // self.gradient_accumulation)
        return self.batch_size - part * ((self.batch_size - 1) // part)

    @property
    def expected_length(self) -> int:
        """``max_length`` in tokens, or a guess where it is left to the data: for estimates only."""
        return GUESSED_LENGTH if isinstance(self.max_length, str) else self.max_length

    @property
    def scaling(self) -> float | None:
        """The factor in front of delta W: by ``scaling_rule`` for cdka and LoRA, None for full fine-tuning."""
        if self.components is not None:
            return self.components.scaling(self.alpha, self.scaling_rule)
        return None if self.rank is None else scaling(self.alpha, 1, self.rank, self.scaling_rule)

    @property
    def can_share_batches(self) -> bool:
        """True where the run may train in a pack: PEFT's other adapters do not tell the parts of a batch apart."""
        return self.method == "cdka" and self.num_processes == 1

    @property
    def label(self) -> str:
        """The configuration in short: ``cdka 2,8,4``, ``lora 8`` or ``full``."""
        if self.components is not None:
            return f"{self.method} {self.components}" + (" patterned" if self.component_pattern else "")
        return self.method if self.rank is None else f"{self.method} {self.rank}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` is its inverse."""
        data = asdict(self)
        data["components"] = None if self.components is None else list(self.components.as_tuple())
        data["component_pattern"] = {name: list(c.as_tuple()) for name, c in self.component_pattern.items()}
        if isinstance(self.target_modules, tuple):
            data["target_modules"] = list(self.target_modules)
        data["task_options"] = dict(self.task_options)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunSpec:
        """The spec that ``to_dict`` wrote; unknown keys are errors."""
        for key in data:
            if key not in FIELD_NAMES:
                raise unknown("run setting", key, FIELD_NAMES)
        missing = [name for name in ("model", "task") if name not in data]
        if missing:
            raise CdkaError(f"a run needs a model and a task: missing {' and '.join(missing)}.")
        return cls(**data)

    def with_(self, **changes: Any) -> RunSpec:
        """A copy with some settings changed, validated again."""
        return replace(self, **changes)


MAX_SEED = 2**63
"""Bound of what torch, NumPy and SQLite take as an integer."""
FIELD_NAMES = tuple(f.name for f in fields(RunSpec))


def check_engine(engine: str) -> None:
    """Raises CdkaError unless ``engine`` is ``local`` or the address of a cluster."""
    if engine != LOCAL and not (isinstance(engine, str) and _CLUSTER.fullmatch(engine)):
        raise CdkaError(
            f"engine must be auto, local, or a Ray cluster's address: got {str(engine)[:80]!r}. Example: "
            "ray:10.0.0.1:6379 on a machine of the cluster, ray://10.0.0.1:10001 from another one."
        )


def _check_value(one: Field, value: Any) -> None:
    """Raises CdkaError where the value is not among the field's choices, or outside its range."""
    name, facts = one.name, one.metadata
    if "choices" in facts and value not in facts["choices"]:
        if name == "method":
            raise unknown("method", value, METHODS)
        raise CdkaError(f"{name} must be one of {', '.join(filter(None, facts['choices']))}: got {value!r}.")
    if "words" in facts and not (type(value) is int and value >= facts["least"]) and value not in facts["words"]:
        listed = " or ".join(facts["words"])
        raise CdkaError(f"{name} must be an integer of at least {facts['least']}, or {listed}: got {value!r}.")
    if one.type == "int" and "least" in facts and (type(value) is not int or value < facts["least"]):
        raise CdkaError(f"{name} must be an integer of at least {facts['least']}: got {value!r}.")
    if one.type == "float":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if "above" in facts and not (is_number and facts["above"] < value < math.inf):
            raise CdkaError(f"{name} must be a positive number: got {value!r}.")
        if "below" in facts and not (is_number and facts["least"] <= value < facts["below"]):
            raise CdkaError(f"{name} must be at least {facts['least']} and below {facts['below']:g}: got {value!r}.")
