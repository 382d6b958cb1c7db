"""Writing an ``AdapterFile`` in a dialect: one function a target, from factors to named tensors and a configuration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cdka.adapter_files.adapter_file import AdaptedModule, AdapterFile
from cdka.adapter_files.names import PEFT_PREFIX, joins_by_underscore, spelled
from cdka.adapter_files.tensors import Tensor
from cdka.components import scaling
from cdka.errors import CdkaError
from cdka.theory.factors import Factors

CARRIED = (
    "task_type",
    "base_model_name_or_path",
    "revision",
    "auto_mapping",
    "exclude_modules",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "trainable_token_indices",
    "fan_in_fan_out",
)
"""Settings of an ``adapter_config.json`` that mean the same in every PEFT method."""


@dataclass(frozen=True)
class Written:
    """The tensors of a file, its configuration (None for a bare file), and the relative error of every module."""

    tensors: dict[str, Tensor]
    config: dict[str, Any] | None
    errors: dict[str, float]
    ranks: dict[str, int]


def to_cdka(adapter: AdapterFile, prefix: str = PEFT_PREFIX) -> Written:
    """A PEFT directory of CDKA: the factors as they are, their scalings as alpha by the file's scaling rule."""
    rule, tensors, alphas, components = adapter.scaling_rule, {}, {}, {}
    for module in adapter.modules:
        f = module.factors
        c = f.components
        alphas[module.name] = _tidy(f.scaling / scaling(1.0, c.r2, c.r, rule))
        components[module.name] = c.as_tuple()
        base = spelled(prefix, module.name)
        tensors[f"{base}.cdka_A"] = Tensor.of(f.A, module.dtype)
        tensors[f"{base}.cdka_B"] = Tensor.of(f.B, module.dtype)
    usual = Counter(components.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    config = _carried(adapter) | {
        "peft_type": "CDKA",
        **dict(zip(("r1", "r2", "r"), usual, strict=True)),
        "alpha": alpha,
        "scaling_rule": rule,
        "component_pattern": {_exactly(name): list(c) for name, c in components.items() if c != usual},
        "alpha_pattern": {_exactly(name): a for name, a in alphas.items() if a != alpha},
        "bias": _bias(adapter, "cdka_only"),
        "init_weights": "kaiming",
    }
    kernels = {m.name: list(m.kernel) for m in adapter.modules if m.kernel}
    embeddings = [m.name for m in adapter.modules if m.embedding]
    config |= {k: v for k, v in (("kernel_sizes", kernels), ("embeddings", embeddings)) if v}
    return _written(adapter, tensors, config, prefix)


def to_lora(adapter: AdapterFile, prefix: str = PEFT_PREFIX, max_rank: int | None = None, approximate: bool = False):
    """A PEFT directory of LoRA: r is the largest rank, every scaling is folded in, so that all are 1."""
    tensors, ranks, errors = {}, {}, {}
    for module in adapter.modules:
        down, up, errors[module.name] = _lora_pair(module, max_rank, approximate)
        ranks[module.name] = len(down)
        base = spelled(prefix, module.name)
        if module.embedding:
            tensors[f"{base}.lora_embedding_A"] = Tensor.of(down, module.dtype)
            tensors[f"{base}.lora_embedding_B"] = Tensor.of(up, module.dtype)
            continue
        down, up = _convolved(down, up, module.kernel)
        tensors[f"{base}.lora_A.weight"] = Tensor.of(down, module.dtype)
        tensors[f"{base}.lora_B.weight"] = Tensor.of(up, module.dtype)
    rank = max(ranks.values())
    pattern = {_exactly(name): own for name, own in ranks.items() if own != rank}
    config = _carried(adapter) | {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "rank_pattern": pattern,
        "alpha_pattern": dict(pattern),
        "bias": _bias(adapter, "lora_only"),
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }
    return replace(_written(adapter, tensors, config, prefix), errors=errors, ranks=ranks)


def to_kohya(
    adapter: AdapterFile, prefix: str = "lora_unet_", max_rank: int | None = None, approximate: bool = False
) -> Written:
    """A file of LoRA with kohya's names: lora_down, lora_up, and alpha equal to the rank, so that the scale is 1."""
    tensors, ranks, errors = {}, {}, {}
    for module in adapter.modules:
        down, up, errors[module.name] = _lora_pair(module, max_rank, approximate)
        ranks[module.name] = len(down)
        base = spelled(prefix, module.name)
        down, up = _convolved(down, up, module.kernel)
        tensors[f"{base}.lora_down.weight"] = Tensor.of(down, module.dtype)
        tensors[f"{base}.lora_up.weight"] = Tensor.of(up, module.dtype)
        tensors[f"{base}.alpha"] = Tensor.of(np.array(float(ranks[module.name])), module.dtype)
    return replace(_file(adapter, tensors), errors=errors, ranks=ranks)


def to_lokr(adapter: AdapterFile, prefix: str = "lycoris_", approximate: bool = False) -> Written:
    """A file of LoKr with both factors full, which readers take from the shapes: ``lokr_w1`` = scaling B, alpha 1."""
    tensors, errors = {}, {}
    for module in adapter.modules:
        single, errors[module.name] = _single(module, approximate)
        base = spelled(prefix, module.name)
        tensors[f"{base}.lokr_w1"] = Tensor.of(single.scaling * single.B[0], module.dtype)
        tensors[f"{base}.lokr_w2"] = Tensor.of(_kernel_last(single.A[0], module.kernel), module.dtype)
        tensors[f"{base}.alpha"] = Tensor.of(np.array(1.0), module.dtype)
    return replace(_file(adapter, tensors), errors=errors)


def to_peft_lokr(adapter: AdapterFile, prefix: str = PEFT_PREFIX, approximate: bool = False) -> Written:
    """A PEFT directory of LoKr, where PEFT can hold the sizes: out/r1 = r2 = decompose_factor on every module."""
    tensors, errors, factor, misfits, largest = {}, {}, 0, [], 1
    for module in adapter.modules:
        single, errors[module.name] = _single(module, approximate)
        (rows, columns), w2 = single.B[0].shape, _kernel_last(single.A[0], module.kernel)
        factor = factor or rows
        if not rows == columns == factor or module.embedding or len(module.kernel) == 1:
            misfits.append(f"{module.name!r} ({rows} x {columns})")
        largest = max(largest, *w2.shape)
        base = spelled(prefix, module.name)
        tensors[f"{base}.lokr_w1"] = Tensor.of(single.scaling * single.B[0], module.dtype)
        tensors[f"{base}.lokr_w2"] = Tensor.of(w2, module.dtype)
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise CdkaError(
            f"PEFT's LoKr holds a first factor of one square size, out/r1 = r2 on every module: got "
            f"{', '.join(misfits[:3])}{more}. Use --to lora, or --to lokr for readers that take shapes from the file."
        )
    config = _carried(adapter) | {
        "peft_type": "LOKR",
        "r": largest,
        "alpha": largest,
        "decompose_factor": factor,
        "decompose_both": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "init_weights": True,
    }
    return replace(_written(adapter, tensors, config, prefix), errors=errors)


def to_official(adapter: AdapterFile, prefix: str = PEFT_PREFIX) -> Written:
    """The research code's directory: one (r1, r2, r) and one alpha for all modules, components interleaved."""
    c, alpha = _one_for_all(adapter, "the research code")
    tensors = {}
    for module in adapter.modules:
        A, B = _interleaved(module.factors)
        base = spelled(prefix, module.name)
        tensors[f"{base}.lora_A.weight"] = Tensor.of(A, module.dtype)
        tensors[f"{base}.lora_B.weight"] = Tensor.of(B, module.dtype)
    config = _carried(adapter) | {"peft_type": "LORA", "r1": c[0], "r2": c[1], "r": c[2], "lora_alpha": alpha}
    return _written(adapter, tensors, config | {"bias": _bias(adapter, "lora_only")}, prefix)


def to_storyaura(adapter: AdapterFile, prefix: str = "lora_unet_") -> Written:
    """storyAura's file: ``cdka_a``, ``cdka_b`` and alpha, scaled by alpha / sqrt(r r2)."""
    tensors = {}
    for module in adapter.modules:
        base, f = spelled(prefix, module.name), module.factors
        alpha = _tidy(f.scaling / f.components.scaling(1.0))
        tensors[f"{base}.cdka_a"] = Tensor.of(f.A, module.dtype)
        tensors[f"{base}.cdka_b"] = Tensor.of(f.B, module.dtype)
        tensors[f"{base}.alpha"] = Tensor.of(np.array(alpha), module.dtype)
    return _file(adapter, tensors)


def to_takenoko(adapter: AdapterFile, prefix: str = "cdka_unet_") -> Written:
    """takenoko's file: interleaved factors, the components in buffers, scaled by alpha / rank; no padding."""
    tensors = {}
    for module in adapter.modules:
        base, f = spelled(prefix, module.name), module.factors
        A, B = _interleaved(f)
        tensors[f"{base}.lora_down.weight"] = Tensor.of(A, module.dtype)
        tensors[f"{base}.lora_up.weight"] = Tensor.of(B, module.dtype)
        tensors[f"{base}.alpha"] = Tensor.of(np.array(_tidy(f.scaling * f.components.r)), module.dtype)
        sizes = {"in_block_size": A.shape[1], "out_block_size": B.shape[0], "allow_padding_flag": 0}
        sizes |= dict(zip(("r1", "r2", "rank"), f.components.as_tuple(), strict=True))
        for name, value in sizes.items():
            tensors[f"{base}.cdka_{name}"] = Tensor.of(np.array(value), "I64")
    return _file(adapter, tensors)


WRITERS: dict[str, Callable[..., Written]] = {
    "lora": to_lora,
    "kohya": to_kohya,
    "lokr": to_lokr,
    "peft-lokr": to_peft_lokr,
    "cdka": to_cdka,
    "official": to_official,
    "storyaura": to_storyaura,
    "takenoko": to_takenoko,
}
"""The targets of ``cdka export --to``."""


def _lora_pair(module: AdaptedModule, max_rank: int | None, approximate: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """(lora_A, lora_B, relative error) of a module, cut to ``max_rank`` where that is asked for."""
    rank = module.factors.lora_rank
    if max_rank is None or rank <= max_rank:
        return (*module.factors.lora(), 0.0)
    U, s, V = np.linalg.svd(module.factors.delta(), full_matrices=False)
    total = float(np.sum(s**2))
    error = float(np.sqrt(np.sum(s[max_rank:] ** 2) / total)) if total else 0.0
    if error > 1e-7 and not approximate:
        raise CdkaError(
            f"the exact LoRA of {module.name!r} has rank {rank}, above --max-rank {max_rank}: cut to it, delta W "
            "would be "
            f"off by {error:.3g} of its norm. Raise the limit, or allow that with --approximate."
        )
    root = np.sqrt(s[:max_rank])
    return root[:, None] * V[:max_rank], U[:, :max_rank] * root, error


def _single(module: AdaptedModule, approximate: bool) -> tuple[Factors, float]:
    """The module as one Kronecker product and the relative error of that."""
    single = module.factors.as_single()
    if single is not None:
        return single, 0.0
    c = module.components
    if not approximate:
        raise CdkaError(
            f"a LoKr is one Kronecker product, r = 1: {module.name!r} has {c.r} at (r1, r2) = ({c.r1}, {c.r2}). Use "
            "--to "
            "lora, which is exact, or allow the nearest LoKr with --approximate."
        )
    return module.factors.nearest(replace(c, r=1))


def _interleaved(f: Factors) -> tuple[np.ndarray, np.ndarray]:
    """A as (r1 r, in/r2) with component i in rows i::r, B as (out/r1, r2 r) with component i in columns i::r."""
    r1, r2, r = f.components.as_tuple()
    return f.A.transpose(1, 0, 2).reshape(r1 * r, -1), f.B.transpose(1, 2, 0).reshape(-1, r2 * r)


def _one_for_all(adapter: AdapterFile, who: str) -> tuple[tuple[int, int, int], float]:
    kinds = {m.components.as_tuple() for m in adapter.modules}
    alphas = {_tidy(m.factors.scaling / m.components.scaling(1.0)) for m in adapter.modules}
    if len(kinds) > 1 or len(alphas) > 1:
        raise CdkaError(
            f"{who} has one (r1, r2, r) and one alpha for all modules: got {len(kinds)} and {len(alphas)} of them. "
            "Use --to cdka or --to lora."
        )
    return kinds.pop(), alphas.pop()


def _convolved(down: np.ndarray, up: np.ndarray, kernel: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The factors of a LoRA as the weights of two convolutions, or as they are for a linear layer."""
    if not kernel:
        return down, up
    return down.reshape(len(down), -1, *kernel), up.reshape(*up.shape, *(1 for _ in kernel))


def _kernel_last(A: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """A (r1, in * k * k / r2) as (r1, in / r2, k, k). Raises CdkaError where r2 divides the kernel's part of it."""
    if not kernel:
        return A
    size = int(np.prod(kernel))
    if A.shape[1] % size:
        raise CdkaError(
            f"a LoKr splits the channels of a convolution, not its kernel: a row of A has {A.shape[1]} numbers, the "
            "kernel "
            f"{size}. Use --to lora."
        )
    return A.reshape(len(A), -1, *kernel)


def _carried(adapter: AdapterFile) -> dict[str, Any]:
    config = {name: adapter.config[name] for name in CARRIED if adapter.config.get(name) is not None}
    targets = adapter.config.get("target_modules")
    return config | {"target_modules": targets or [m.name for m in adapter.modules], "inference_mode": True}


def _bias(adapter: AdapterFile, own: str) -> str:
    bias = str(adapter.config.get("bias", "none"))
    return own if bias.endswith("_only") else bias


def _exactly(name: str) -> str:
    """A pattern that matches this module alone."""
    return f"^{re.escape(name)}"


def _tidy(value: float) -> float:
    """A number without the last bits that a division and a multiplication leave: 7.000000000000001 is 7.0."""
    near = float(f"{value:.15g}")
    return near if abs(near - value) <= 4 * np.spacing(abs(value)) else value


def _written(adapter: AdapterFile, tensors: dict[str, Tensor], config: dict[str, Any], prefix: str) -> Written:
    extra = {_renamed(name, adapter.prefix, prefix): tensor for name, tensor in adapter.extra.items()}
    return Written(extra | tensors, config, dict.fromkeys((m.name for m in adapter.modules), 0.0), _ranks(adapter))


def _file(adapter: AdapterFile, tensors: dict[str, Tensor]) -> Written:
    if adapter.extra:
        names = ", ".join(list(adapter.extra)[:3])
        raise CdkaError(
            f"this kind of file holds adapters only: the adapter comes with {len(adapter.extra)} trained tensors "
            f"({names}). "
            "Use --to lora or --to cdka, which carry them, or merge the adapter."
        )
    if any(m.embedding for m in adapter.modules):
        raise CdkaError("this kind of file holds no adapters of embeddings: got one. Use --to lora or --to cdka.")
    return Written(tensors, None, dict.fromkeys((m.name for m in adapter.modules), 0.0), _ranks(adapter))


def _ranks(adapter: AdapterFile) -> dict[str, int]:
    return {m.name: m.factors.lora_rank for m in adapter.modules}


def _renamed(name: str, old: str, new: str) -> str:
    """A trained tensor's name under another prefix; those of PEFT keep theirs."""
    return name if not old or joins_by_underscore(old) or not name.startswith(old) else new + name.removeprefix(old)
