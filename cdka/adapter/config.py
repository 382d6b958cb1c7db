"""``CdkaConfig``: the settings of a Kronecker adapter, as PEFT stores them; the method made known to PEFT.

PEFT finds a method's classes through dictionaries keyed by ``PeftType``, an enumeration with string values. It has
no plug-in path, and ``register_peft_method`` asks for a member of that enumeration; a member of our own string
enumeration hashes and compares like one, so the dictionaries can be filled and nothing of PEFT's is patched.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft.config import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.other import get_pattern_key
from peft.utils.peft_types import PeftType

from cdka.components import INDIVISIBLE, INIT_WEIGHTS, SCALING_RULES, Components
from cdka.errors import CdkaError, nearest, unknown

PREFIX = "cdka_"
"""Every adapter parameter's name starts with this; transformers derives it from the name of the method."""


class CdkaPeftType(str, enum.Enum):  # noqa: UP042 - PEFT reads the part after the dot of str(), as Enum writes it
    """The name of the method in ``adapter_config.json``."""

    CDKA = "CDKA"


PEFT_TYPE = getattr(PeftType, "CDKA", CdkaPeftType.CDKA)


def register(config_cls: type, model_cls: type) -> bool:
    """Registers the classes of CDKA with PEFT; returns False, changing nothing, where PEFT knows the method already."""
    if PEFT_TYPE in PEFT_TYPE_TO_TUNER_MAPPING:
        return False
    PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = config_cls
    PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = model_cls
    PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = PREFIX
    return True


BIASES = ("none", "all", "cdka_only")


class UnknownField(CdkaError, TypeError):
    """A field that ``CdkaConfig`` has not. A TypeError too, by which PEFT knows settings of a later version."""


@dataclass
class CdkaConfig(PeftConfig):
    """Settings of a Kronecker adapter: ``delta W = scaling * sum_{i=1..r} kron(B_i, A_i)`` (arXiv 2602.01267).

    Raises CdkaError for a value outside its range. Whether the components divide the layers is checked when the
    adapter is put into a model, where all layers that do not fit are named at once.

    Attributes:
        r1: rows of A_i; divides out_features. r2: columns of B_i; divides in_features. r: number of components.
        alpha: numerator of the scaling. scaling_rule: ``sqrt_r_r2`` is alpha / sqrt(r * r2), the paper's
            stabilisation; ``sqrt_r``, ``r`` and ``none`` are there to compare with.
        target_modules: names, a regular expression, ``"all-linear"``, or None for the usual ones of the model.
        exclude_modules: names or a regular expression of modules to leave alone.
        component_pattern: ``{module name or regular expression: (r1, r2, r)}``, matched as PEFT's rank_pattern; a
            value may also name some of the three only, as in ``{"q_proj": {"r": 8}}``.
        rank_pattern: the same for r alone, ``{"q_proj": 8}``, as every tuner of PEFT has it; applied last.
        alpha_pattern: the same for alpha.
        indivisible: a layer that r1 or r2 does not divide is an ``error``, is left out (``skip``), or gets the
            ``nearest`` components that fit it; a warning names the change.
        module_dropout: probability with which a layer's adapter sits out a training step.
        init_weights: True or ``kaiming`` (delta W starts at zero), False or ``random`` (it does not; for tests), or
            ``gradient``
            (to be followed by ``initialise_from_gradient``).
        bias: which biases of the base model are trained too: ``none``, ``all`` or ``cdka_only``.
        modules_to_save: modules trained in full and saved with the adapter, such as a new head.
        layers_to_transform, layers_pattern: restrict the adapter to layers by index, as in PEFT.
        trainable_token_indices: token embeddings to train, as in PEFT.

    >>> cdka.CdkaConfig(r1=2, r2=8, r=4, alpha=64, target_modules="all-linear").components_for("q_proj")
    Components(r1=2, r2=8, r=4)
    """

    r1: int = 2
    r2: int = 8
    r: int = 4
    alpha: float = 64.0
    scaling_rule: str = "sqrt_r_r2"
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    component_pattern: dict[str, Any] | None = field(default_factory=dict)
    rank_pattern: dict[str, int] | None = field(default_factory=dict)
    alpha_pattern: dict[str, float] | None = field(default_factory=dict)
    indivisible: str = "error"
    module_dropout: float = 0.0
    init_weights: bool | str = "kaiming"
    bias: str = "none"
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    kernel_sizes: dict[str, list[int]] = field(
        default_factory=dict,
        metadata={"help": "The kernel of every adapted convolution, filled in when it is adapted; kept for exports."},
    )
    embeddings: list[str] = field(
        default_factory=list,
        metadata={"help": "The adapted embeddings, filled in when they are adapted; kept for exports."},
    )
    fan_in_fan_out: bool = field(
        default=False,
        metadata={"help": "Set when the adapted layers store (in, out), as GPT-2's do; kept for the LoRA export."},
    )

    def __new__(cls, *args: Any, **settings: Any) -> CdkaConfig:
        """Raises UnknownField, with the nearest names, for a field that there is not."""
        unexpected = [name for name in settings if name not in cls.__dataclass_fields__]
        if unexpected:
            if unexpected[0] == "target_parameters":
                hint = "CDKA adapts layers, not parameters of fused experts; name layers in target_modules."
            else:
                close = nearest(unexpected[0], cls.__dataclass_fields__)
                hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "See help(CdkaConfig)."
            raise UnknownField(f"{cls.__name__} got an unexpected keyword argument {unexpected[0]!r}. {hint}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PEFT_TYPE
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                setattr(self, name, set(value))
        for name in ("component_pattern", "rank_pattern", "alpha_pattern"):
            setattr(self, name, getattr(self, name) or {})
        default = self.components
        self.component_pattern = {
            key: tuple(_merged(default, value, key).as_tuple()) for key, value in self.component_pattern.items()
        }
        for where, value in (("", self.alpha), *((f" for {key!r}", v) for key, v in self.alpha_pattern.items())):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise CdkaError(f"alpha must be a finite number: got {value!r}{where}.")
        for key, value in self.rank_pattern.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise CdkaError(f"rank_pattern gives r, a positive integer: got {value!r} for {key!r}.")
        choices_of = {"scaling_rule": SCALING_RULES, "bias": BIASES, "indivisible": INDIVISIBLE}
        if not isinstance(self.init_weights, bool):
            choices_of["init_weights"] = INIT_WEIGHTS
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                raise unknown(name, str(getattr(self, name)), choices)
        if not isinstance(self.module_dropout, int | float) or not 0 <= self.module_dropout < 1:
            raise CdkaError(f"module_dropout must be at least 0 and below 1: got {self.module_dropout!r}.")
        if self.layers_pattern and self.layers_to_transform is None:
            raise CdkaError(
                f"layers_pattern needs layers_to_transform: got layers_pattern={self.layers_pattern!r} alone. "
                "Say which layer indices to adapt."
            )
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise CdkaError(
                "layers_to_transform needs target_modules as a list of names: "
                f"got target_modules={self.target_modules!r}. Put the layer indices into the expression instead."
            )

    @property
    def components(self) -> Components:
        """(r1, r2, r) of every layer without an override."""
        return Components(self.r1, self.r2, self.r)

    def components_for(self, module_name: str) -> Components:
        """(r1, r2, r) of the named module, before ``indivisible`` is applied to its size."""
        key = get_pattern_key(self.component_pattern, module_name)
        r1, r2, r = self.component_pattern.get(key, self.components.as_tuple())
        return Components(r1, r2, self.rank_pattern.get(get_pattern_key(self.rank_pattern, module_name), r))

    @property
    def start(self) -> str:
        """``init_weights`` as one of ``cdka.components.INIT_WEIGHTS``."""
        if isinstance(self.init_weights, bool):
            return "kaiming" if self.init_weights else "random"
        return self.init_weights

    def alpha_for(self, module_name: str) -> float:
        """alpha of the named module."""
        return self.alpha_pattern.get(get_pattern_key(self.alpha_pattern, module_name), self.alpha)


def _merged(default: Components, value: Any, key: str) -> Components:
    if not isinstance(value, Mapping):
        return Components.parse(value)
    for name in value:
        if name not in ("r1", "r2", "r"):
            raise unknown("component", str(name), ("r1", "r2", "r"), where=f"in component_pattern[{key!r}].")
    return Components(**{"r1": default.r1, "r2": default.r2, "r": default.r, **value})
