"""Turn a pre-trained model into one that trains by a method: cdka, LoRA, LoKr or DoRA through PEFT, or in full."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoKrConfig, LoraConfig, PeftConfig, get_peft_model

from cdka.adapter import CdkaConfig
from cdka.errors import CdkaError
from cdka.models.targets import peft_targets
from cdka.runs.spec import RunSpec
from cdka.train.load_model import Loaded
from cdka.train.read_shapes import shapes_of


def peft_config(spec: RunSpec, targets: list[str] | str, fresh_modules: Sequence[str]) -> PeftConfig:
    """The PEFT configuration of an adapter run; the same dictionary reproduces it outside this project."""
    shared = {"target_modules": targets, "modules_to_save": list(fresh_modules) or None}
    if spec.method == "cdka":
        pattern = {name: c.as_tuple() for name, c in spec.component_pattern.items()}
        r1, r2, r = spec.components.as_tuple()
        return CdkaConfig(
            r1=r1,
            r2=r2,
            r=r,
            alpha=spec.alpha,
            scaling_rule=spec.scaling_rule,
            component_pattern=pattern,
            indivisible=spec.indivisible,
            init_weights=spec.init_weights,
            **shared,
        )
    plain = spec.scaling_rule == "r"
    if spec.scaling_rule not in ("sqrt_r_r2", "sqrt_r", "r"):
        raise CdkaError(f"method {spec.method} scales by sqrt_r (rsLoRA) or r (plain): got {spec.scaling_rule!r}.")
    if spec.method == "lokr":
        # PEFT's LoKr divides alpha by its rank; hand it the alpha that gives our scaling.
        alpha = spec.scaling * spec.rank
        return LoKrConfig(r=spec.rank, alpha=alpha, decompose_factor=spec.lokr_factor, **shared)
    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        use_rslora=not plain,
        use_dora=spec.method == "dora",
        lora_dropout=0.0,
        **shared,
    )


def adapter_name(index: int, total: int) -> str:
    """PEFT's own default name for a lone adapter, so that its files lie where stock PEFT looks; else one per run."""
    return "default" if total == 1 else f"run{index}"


def attach(loaded: Loaded, specs: Sequence[RunSpec]) -> torch.nn.Module:
    """The model with one adapter per spec, named by ``adapter_name``; the model itself for full fine-tuning.

    The adapter of each spec is initialised from its own seed, so that a pack starts where separate runs start.
    Raises CdkaError when a spec does not fit the model, or when full fine-tuning is to share a base.
    """
    if any(spec.method == "full" for spec in specs):
        if len(specs) > 1:
            raise CdkaError("full fine-tuning trains the base itself: it cannot share it. Run it alone.")
        return loaded.model.requires_grad_(True)
    shapes = shapes_of(loaded.model, specs[0].model)
    model = None
    for index, spec in enumerate(specs):
        config = peft_config(spec, peft_targets(shapes, spec.target_modules), loaded.fresh_modules)
        name = adapter_name(index, len(specs))
        torch.manual_seed(spec.seed)
        if model is None:
            model = get_peft_model(loaded.model, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    return model


def trainable(model: torch.nn.Module, spec: RunSpec, adapter: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that belong to one run, by name, marked as trainable."""
    own = {
        name: parameter
        for name, parameter in model.named_parameters()
        if spec.method == "full" or adapter in name.split(".")
    }
    for parameter in own.values():
        parameter.requires_grad_(True)
    return own
