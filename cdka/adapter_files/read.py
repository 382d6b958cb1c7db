"""``open_adapter``: a file or folder of any known kind, told by its tensors' names, as an ``AdapterFile``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cdka.adapter_files.adapter_file import AdaptedModule, AdapterFile
from cdka.adapter_files.fields import CONVERTERS, NEEDED, Module
from cdka.adapter_files.names import REFUSED, Key, natural, parse, style_of
from cdka.adapter_files.tensors import CONFIG_FILE, WEIGHTS_FILE, Tensor, read_config, read_tensors
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.paths import pasted_path

PEFT_METHODS = {"CDKA": "cdka", "LORA": "lora", "LOKR": "lokr", "LOHA": "loha"}
KINDS = (
    "peft-cdka, peft-lora, peft-lokr, peft-loha, kohya, ai-toolkit, diffusers and SimpleTuner LoRA, LoKr and LoHa, and "
    "CDKA as its research code, storyAura, takenoko and Anima write it"
)
_NOT_ADDITIVE = {
    "use_dora": "DoRA, which also rescales the base weight",
    "lora_bias": "a LoRA with a bias of its own",
    "layer_replication": "a LoRA over repeated layers",
    "target_parameters": "a LoRA on parameters of fused experts",
    "alora_invocation_tokens": "an activated LoRA, which acts on some tokens only",
    "use_qalora": "QALoRA, which pools its input",
}
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def open_adapter(
    path: str | os.PathLike[str], *, only: str | None = None, components: Components | None = None
) -> AdapterFile:
    """The adapter in a safetensors file, or in a folder that holds one, with its ``adapter_config.json`` if there is
    one.

    ``only`` picks the modules under one prefix (``lora_unet_``) of a file for several models. ``components`` gives (r1,
    r2, r) where a file of the research code does not name them. Raises CdkaError, in one line, for everything that is
    not a sum of Kronecker products, naming what it is; and for damaged files.
    """
    source = pasted_path(path)
    weights = find_weights(source)
    tensors, metadata = read_tensors(weights)
    config_path = weights.parent / CONFIG_FILE
    has_config = weights.name == WEIGHTS_FILE and config_path.is_file()
    config = read_config(config_path) if has_config else _diffusers_config(metadata)
    if components is not None:
        config |= dict(zip(("r1", "r2", "r"), components.as_tuple(), strict=True))
    _check_config(config, source)
    keys = {name: parse(name) for name in tensors}
    groups, extra = _grouped(tensors, keys, only, source)
    prefix = next(iter(groups))[0]
    method, converter = _method(groups, config, source)
    if "cdka_A" in next(iter(groups.values())) and not has_config:
        raise CdkaError(f"a CDKA adapter needs its {CONFIG_FILE}, which holds alpha: none is beside {str(weights)!r}.")
    peft = bool(config.get("peft_type")) and prefix in ("", "base_model.model.")
    modules = []
    for (_, name), parts in sorted(groups.items(), key=lambda item: natural(item[0][1])):
        modules.append(_module(name, parts, method, converter, config, peft))
    style = {"official": "official", "takenoko": "takenoko"}.get(converter) or _style(prefix, groups, metadata, config)
    rule = "none"
    if method == "lora":
        rule = "sqrt_r" if config.get("use_rslora") else "r"
    elif method == "cdka":
        rule = config.get("scaling_rule", "sqrt_r_r2")
    return AdapterFile(
        kind=f"{style}-{'cdka' if style == 'anima' else method}",
        method=method,
        modules=tuple(modules),
        prefix=prefix,
        config=config,
        extra=extra,
        notes=tuple(_notes(groups, extra, metadata)),
        path=source,
        scaling_rule=rule,
    )


def find_weights(source: Path) -> Path:
    """The safetensors file of an adapter: the path itself, or the only one in the folder."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise CdkaError(
            f"an adapter is a safetensors file or a folder with one: got {str(source)!r} (not found). One on the Hub "
            "is downloaded first."
        )
    if (source / WEIGHTS_FILE).is_file():
        return source / WEIGHTS_FILE
    files = sorted(source.glob("*.safetensors")) or sorted(
        f for s in ("bin", "pt", "ckpt") for f in source.glob(f"*.{s}")
    )
    if len(files) != 1:
        found = ", ".join(f.name for f in files[:3]) or "none"
        raise CdkaError(
            f"an adapter folder holds {WEIGHTS_FILE} or one safetensors file: got {found} in {str(source)!r}. "
            "Give the file itself."
        )
    return files[0]


def _check_config(config: Mapping[str, Any], source: Path) -> None:
    kind = config.get("peft_type")
    if kind is not None and kind not in PEFT_METHODS:
        raise CdkaError(
            f"adapters that are sums of Kronecker products are read ({', '.join(PEFT_METHODS)}): got peft_type "
            f"{kind!r} in "
            f"{str(source)!r}. Merge it into its base model where it was made."
        )
    reasons = [reason for name, reason in _NOT_ADDITIVE.items() if config.get(name)]
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        reasons.append(f"a LoRA whose start ({start}) changed the base weights")
    if reasons:
        raise CdkaError(
            f"only what is added to the base weight can be carried over: {str(source)!r} is {' and '.join(reasons)}. "
            "Merge it into its base model where it was made."
        )


def _grouped(
    tensors: Mapping[str, Tensor], keys: Mapping[str, Key | None], only: str | None, source: Path
) -> tuple[dict[tuple[str, str], dict[str, Tensor]], dict[str, Tensor]]:
    """The tensors by (prefix, module) and field, and those that belong to no adapter."""
    groups: dict[tuple[str, str], dict[str, Tensor]] = {}
    extra = {}
    for name, tensor in tensors.items():
        key = keys[name]
        if key is None:
            extra[name] = tensor
        elif only is None or key.prefix == only:
            if key.field in REFUSED:
                raise CdkaError(
                    f"only sums of Kronecker products are read: {key.module!r} in {str(source)!r} has {key.field}, "
                    "which is "
                    f"{REFUSED[key.field]}. Merge it into its base model where it was made."
                )
            groups.setdefault((key.prefix, key.module), {})[key.field] = tensor
    prefixes = sorted({prefix for prefix, _ in groups})
    if not groups:
        seen = ", ".join(repr(name) for name in list(tensors)[:2]) or "no tensors"
        wanted = f" under {only!r}" if only else ""
        raise CdkaError(f"no adapter is in {str(source)!r}{wanted}: it holds {seen}. Read are {KINDS}.")
    if len(prefixes) > 1:
        raise CdkaError(
            f"an adapter is for one model: {str(source)!r} has parts for {', '.join(map(repr, prefixes))}. "
            f"Choose one with --only {prefixes[0]}."
        )
    return groups, extra


def _method(
    groups: Mapping[tuple[str, str], Mapping[str, Tensor]], config: Mapping[str, Any], source: Path
) -> tuple[str, str]:
    """(method, converter) of a file, from the tensors that each of its modules has."""
    found: dict[str, str] = {}
    for (_, name), parts in groups.items():
        methods = [m for m, sets in NEEDED.items() if any(set(needed) <= set(parts) for needed in sets)]
        if len(methods) != 1:
            raise CdkaError(
                f"every module needs all its factors: {name!r} in {str(source)!r} has only {', '.join(sorted(parts))}. "
                "The file is incomplete; save it again."
            )
        found.setdefault(methods[0], name)
    if len(found) > 1:
        where = " and ".join(f"{method} in {name!r}" for method, name in found.items())
        raise CdkaError(f"a file holds adapters of one method: {str(source)!r} has {where}. Save them apart.")
    method = next(iter(found))
    parts = next(iter(groups.values()))
    if method == "lora" and "cdka_rank" in parts:
        return "cdka", "takenoko"
    if method == "lora" and {"r1", "r2"} <= set(config):
        return "cdka", "official"
    kind = PEFT_METHODS.get(config.get("peft_type", ""), method)
    if kind != method:
        raise CdkaError(
            f"{CONFIG_FILE} and tensors belong together: {str(source)!r} says {kind}, its tensors are {method}."
        )
    if method == "lora" and "lora_A" in parts:
        _check_lora_ranks(groups, source)
    return method, method


def _check_lora_ranks(groups: Mapping[tuple[str, str], Mapping[str, Tensor]], source: Path) -> None:
    """Refuses what looks like LoRA but has other shapes: CDKA of the research code without its configuration."""
    for (_, name), parts in groups.items():
        A, B = parts.get("lora_A"), parts.get("lora_B")
        if A is not None and B is not None and len(A.shape) >= 2 and len(B.shape) >= 2 and A.shape[0] != B.shape[1]:
            raise CdkaError(
                f"both factors of a LoRA have its rank: {name!r} in {str(source)!r} has {A.shape[0]} and "
                f"{B.shape[1]}. If it "
                "is CDKA of the research code, give its r1, r2, r with --components."
            )


def _module(
    name: str, parts: Mapping[str, Tensor], method: str, converter: str, config: Mapping[str, Any], peft: bool
) -> AdaptedModule:
    if converter == "takenoko":
        _check_padding(name, parts)
    arrays = {field: tensor.array(f"{name}.{field}") for field, tensor in parts.items()}
    problems = [field for field, array in arrays.items() if not array.size or not np.isfinite(array).all()]
    if problems:
        raise CdkaError(
            f"factors must be finite numbers: {name!r} has NaN, infinity or nothing in {', '.join(problems)}."
        )
    kernel = next((t.shape[2:] for f, t in parts.items() if f in _KERNEL_FIELDS and len(t.shape) > 2), ())
    if not kernel:
        kernel = tuple((config.get("kernel_sizes") or {}).get(name, ()))
    module = Module(name, arrays, config, peft, kernel)
    try:
        factors = CONVERTERS[converter](module)
    except (ValueError, IndexError) as error:
        if isinstance(error, CdkaError):
            raise
        shapes = ", ".join(f"{field} {t.shape}" for field, t in parts.items())
        raise CdkaError(f"the factors of a module fit together: those of {name!r} do not ({shapes[:150]}).") from None
    dtype = "F64" if any(t.dtype == "F64" for f, t in parts.items() if len(t.shape) > 1) else "F32"
    return AdaptedModule(name, factors, dtype, kernel, "lora_embedding_A" in parts or _is_embedding(name, config))


_KERNEL_FIELDS = ("lora_A", "lora_down", "lokr_w2", "lokr_w2_b", "hada_w1_b")


def _is_embedding(name: str, config: Mapping[str, Any]) -> bool:
    return name in (config.get("embeddings") or ())


def _check_padding(name: str, parts: Mapping[str, Tensor]) -> None:
    """Refuses blocks that are not those of the factors."""
    for block, factor, axis in (("cdka_in_block_size", "lora_down", 1), ("cdka_out_block_size", "lora_up", 0)):
        if block in parts and int(parts[block].array().reshape(-1)[0]) != parts[factor].shape[axis]:
            raise CdkaError(f"{block} is a size of {factor}: {name!r} has {parts[factor].shape}. The file is damaged.")


def _style(
    prefix: str, groups: Mapping[tuple[str, str], Mapping[str, Tensor]], metadata: Mapping[str, str], config: Mapping
) -> str:
    parts = next(iter(groups.values()))
    if "cdka_a" in parts:
        return "storyaura"
    network = metadata.get("ss_network_module", "").lower()
    if "lokr_w1" in parts and any(word in network for word in ("cdka", "krona")):
        return "anima"
    if config.get("peft_type") and prefix in ("", "base_model.model."):
        return "peft"
    return style_of(prefix)


def _diffusers_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The LoRA settings that diffusers keeps in a file's metadata, without the name of the model's part."""
    try:
        found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return {}
    plain = (
        {key.split(".", 1)[1]: value for key, value in found.items() if "." in key} if isinstance(found, dict) else {}
    )
    return {
        k: plain[k]
        for k in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora")
        if k in plain
    }


def _notes(
    groups: Mapping[tuple[str, str], Mapping[str, Tensor]], extra: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> list[str]:
    notes = []
    if any(
        int(p["cdka_allow_padding_flag"].array().reshape(-1)[0])
        for p in groups.values()
        if "cdka_allow_padding_flag" in p
    ):
        notes.append(
            "takenoko may have padded layers that r1 and r2 do not divide; the sizes are taken as whole multiples. "
            "Give --model to have them checked."
        )
    if extra:
        names = ", ".join(list(extra)[:3]) + (f" and {len(extra) - 3} more" if len(extra) > 3 else "")
        notes.append(f"beside the adapter the file holds {len(extra)} trained tensors: {names}.")
    return notes


def model_weights(model: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of a base model's weights by the path of their layer: from safetensors files or a catalogue name."""
    path = pasted_path(model)
    if path.exists():
        files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
        found: dict[str, tuple[int, ...]] = {}
        for file in files:
            found |= _header_shapes(file)
        if found:
            return found
        raise CdkaError(f"a base model is safetensors, one file or a folder: none in {str(path)!r}.")
    from cdka.models.catalogue import find_model
    from cdka.models.targets import paths_of

    shapes = find_model(str(model))
    return {
        path: (linear.out_features, linear.in_features)
        for linear in shapes.linears
        for variants in paths_of(linear)
        for path in variants
    }


def _header_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights named in a safetensors header; the data is not read."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, 100_000_000)))
    except (OSError, ValueError) as error:
        raise CdkaError(f"a base model is safetensors: {str(file)!r} cannot be read ({str(error)[:100]}).") from None
    return {
        name.removesuffix(".weight"): tuple(entry["shape"])
        for name, entry in header.items()
        if name.endswith(".weight") and math.prod(entry["shape"]) > 0 and len(entry["shape"]) > 1
    }


def opened(
    path: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    only: str | None = None,
    components: Components | None = None,
) -> AdapterFile:
    """``open_adapter`` with the module paths of a base model, where one is given."""
    adapter = open_adapter(path, only=only, components=components)
    if model is not None:
        return adapter.with_paths(model_weights(model))
    if adapter.names_are_joined:
        note = (
            "module names are joined by underscores, and where the dots belong is not in the file: give --model, the "
            "base model's folder, to have PEFT find its layers."
        )
        return replace(adapter, notes=(*adapter.notes, note))
    return adapter
