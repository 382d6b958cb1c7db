"""``CdkaModel``: puts Kronecker adapters into a model, as PEFT's tuners do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, AuxiliaryTrainingWrapper
from peft.utils.quantization_utils import get_quantization_kwargs
from torch import nn
from transformers.pytorch_utils import Conv1D

from cdka.adapter.combine import check_combination, combined_config, fill, weighted_sums
from cdka.adapter.config import PREFIX, CdkaConfig
from cdka.adapter.convolution import ConvNd, Embedding
from cdka.adapter.features import CONVOLUTIONS, features
from cdka.adapter.fit import check_fit
from cdka.adapter.layer import CdkaLayer
from cdka.adapter.linear import Linear
from cdka.adapter.mixing import BASE, Assignment
from cdka.adapter.pack import assigned, name_samples
from cdka.errors import CdkaError, unknown


class CdkaModel(BaseTuner):
    """A model with Kronecker adapters; PEFT makes it when ``get_peft_model`` is given a ``CdkaConfig``.

    >>> from peft import get_peft_model
    >>> from torch import nn
    >>> model = get_peft_model(nn.Sequential(nn.Linear(64, 32)), cdka.CdkaConfig(r1=2, r2=8, r=4, target_modules=["0"]))
    >>> isinstance(model.base_model, cdka.CdkaModel), model.get_nb_trainable_parameters()
    (True, (576, 2656))
    """

    prefix: str = PREFIX
    tuner_layer_cls = CdkaLayer
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def _prepare_model(self, peft_config: CdkaConfig, model: nn.Module) -> None:
        """Refuses the configuration, with every layer that does not fit, before the model is touched."""
        check_fit(peft_config, model)

    def _create_and_replace(
        self,
        config: CdkaConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        components = config.components_for(current_key).fitted(*features(base), config.indivisible)
        if components is None:
            return
        alpha = config.alpha_for(current_key)
        if isinstance(base, CONVOLUTIONS):
            config.kernel_sizes[current_key] = list(base.kernel_size)
        if isinstance(base, nn.Embedding) and current_key not in config.embeddings:
            config.embeddings.append(current_key)
        if isinstance(target, CdkaLayer):
            target.update_layer(adapter_name, components, alpha, config)
            if (source := self._copied_from(adapter_name)) is not None:
                target.copy_factors(source, adapter_name)
            return
        if isinstance(target, Conv1D):
            config.fan_in_fan_out = True
        kind = ConvNd if isinstance(base, CONVOLUTIONS) else Embedding if isinstance(base, nn.Embedding) else Linear
        layer = kind(target, adapter_name, components, alpha, config, **get_quantization_kwargs(self.model))
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _copied_from(self, adapter_name: str) -> str | None:
        """The adapter that TRL's trainers mean by a reference; None for any other new adapter.

        They add ``ref`` with the very configuration of the adapter that is to be trained, then copy what has
        ``.default.`` in its name. Our parameters end in the adapter's name: without a copy the reference would be the
        base model.
        """
        if adapter_name != "ref":
            return None
        config = self.peft_config[adapter_name]
        return next((name for name, c in self.peft_config.items() if c is config and name != adapter_name), None)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own method re-attaches weights to the new module, which breaks merge_and_unload where token
        # embeddings are trained as well; LoRA overrides it in the same way.
        setattr(parent, child_name, new_module)
        base = child.get_base_layer() if hasattr(child, "get_base_layer") else child
        weight = next((getattr(base, n) for n in ("qweight", "W_q", "weight") if hasattr(base, n)), None)
        if weight is None or weight.device.type == "meta":
            return
        for name, module in new_module.named_modules():
            if self.prefix in name and not any(p.device.type == "meta" for p in module.parameters()):
                module.to(weight.device)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Serves PEFT's argument ``adapter_names``: one adapter per sample, in inference and in training."""
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        self._check_adapter_names(names)
        beams = kwargs.get("num_beams") or 1
        layers = [m for m in self.modules() if isinstance(m, CdkaLayer)]
        encoder = self.model.get_encoder() if hasattr(self.model, "get_encoder") else None
        # Beam search repeats every sample for the decoder; the encoder still sees each of them once.
        in_encoder = set() if encoder is None or encoder is self.model else set(encoder.modules())
        with ExitStack() as stack:
            for inside, times in ((True, 1), (False, beams)):
                repeated = [name for name in names for _ in range(times)]
                chosen = [layer for layer in layers if (layer in in_encoder) == inside]
                stack.enter_context(assigned(chosen, Assignment.by_sample(repeated)))
                wrappers = [
                    m for m in self.modules() if isinstance(m, AuxiliaryTrainingWrapper) and (m in in_encoder) == inside
                ]
                stack.enter_context(name_samples(wrappers, repeated))
            yield

    def _check_adapter_names(self, names: Sequence[str]) -> None:
        known = sorted({name for m in self.modules() if isinstance(m, CdkaLayer) for name in m.cdka_A})
        for name in dict.fromkeys(names):
            if name != BASE and name not in known:
                raise unknown("adapter", name, known, where="in adapter_names")
        recomputed = self.training and any(getattr(m, "gradient_checkpointing", False) for m in self.modules())
        if recomputed and torch.is_grad_enabled():
            raise CdkaError(
                "adapter_names in training does not go with gradient checkpointing, which runs the layers again after "
                "the names are forgotten. Wrap forward and backward in cdka.adapter.packed(model, adapter_names)."
            )

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Merges adapters into the base weights; with ``safe_merge``, either in every layer or in none.

        Warns where a base weight is shared with a module that has no adapter, such as tied embeddings.
        """
        if safe_merge:
            self._check_finite(adapter_names)
        self._warn_of_tied_weights()
        super().merge_adapter(adapter_names=adapter_names, safe_merge=False)

    def _unload_and_optionally_merge(self, *args: Any, safe_merge: bool = False, **kwargs: Any) -> nn.Module:
        if kwargs.get("merge", True):
            if safe_merge:
                self._check_finite(kwargs.get("adapter_names"))
            self._warn_of_tied_weights()
        return super()._unload_and_optionally_merge(*args, safe_merge=False, **kwargs)

    def _check_finite(self, adapter_names: list[str] | None) -> None:
        for name, layer in self.model.named_modules():
            if isinstance(layer, CdkaLayer):
                layer.check_mergeable(adapter_names, name)

    def _warn_of_tied_weights(self) -> None:
        bases = {id(m.get_base_layer()): name for name, m in self.model.named_modules() if isinstance(m, CdkaLayer)}
        owners: dict[int, list[str]] = {}
        adapted: dict[int, str] = {}
        for name, module in self.model.named_modules():
            weight = module._parameters.get("weight")
            if weight is not None:
                owners.setdefault(id(weight), []).append(bases.get(id(module), name))
                if id(module) in bases:
                    adapted[id(weight)] = bases[id(module)]
        for weight, layer in adapted.items():
            others = [name for name in owners[weight] if name != layer]
            if others:
                warnings.warn(
                    f"merging into {layer!r} changes {', '.join(map(repr, others))} too, which shares its weight: the "
                    "merged model differs from the adapted one. Untie the weights first (tie_word_embeddings=False).",
                    stacklevel=4,
                )

    def add_weighted_adapter(
        self, adapters: list[str], weights: list[float], adapter_name: str, combination_type: str = "cat"
    ) -> None:
        """Adds the adapter whose delta W is the weighted sum of those of others, exactly, module by module.

        Components are joined at the greatest common divisors of r1 and of r2, so that any two adapters add (ours). The
        other combination types of LoRA work on A and B apart, in which delta W is not linear: CdkaError.
        """
        check_combination(list(self.peft_config), adapters, weights, adapter_name, combination_type)
        layers = {name: m for name, m in self.model.named_modules() if isinstance(m, CdkaLayer)}
        sums = weighted_sums(layers, dict(zip(adapters, weights, strict=True)))
        self.peft_config[adapter_name] = combined_config(self.peft_config[adapters[0]], sums)
        try:
            self.inject_adapter(self.model, adapter_name)
        except Exception:
            del self.peft_config[adapter_name]
            raise
        fill(layers, sums, adapter_name)
