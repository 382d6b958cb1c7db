"""A trained CDKA adapter as a standard PEFT LoRA adapter, exactly: ``B (x) A = (B (x) I) (I (x) A)`` (ours)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cdka.adapter.config import CdkaConfig
from cdka.adapter.ops import expand
from cdka.adapter.register import PEFT_TYPE
from cdka.components import Components
from cdka.errors import CdkaError

SERVED_RANK = 64
"""The rank that LoRA servers commonly accept without being reconfigured (vLLM and others stop at 16 to 64)."""
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_ROOT = "base_model.model."


@dataclass(frozen=True)
class LoraExport:
    """What was written: the directory, the rank r * r1 * r2 of every module, and a note for serving (or "")."""

    directory: Path
    ranks: dict[str, int]
    note: str


def lora_factors(A: Tensor, B: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """(lora_A, lora_B) of shapes (R, in) and (out, R), with ``lora_B @ lora_A`` equal to delta W, R = r r1 r2.

    The scaling is shared between the two as its square root, computed in float64.
    """
    r, r1, q = A.shape
    r2 = B.shape[-1]
    root = abs(scaling) ** 0.5
    V = torch.zeros(r2, r, r1, r2, q, dtype=torch.float64)
    V.diagonal(dim1=0, dim2=3).copy_(A.double().unsqueeze(-1).expand(r, r1, q, r2) * root)
    U = expand(B.double() * (root if scaling >= 0 else -root), r1)
    return V.reshape(-1, r2 * q).to(A.dtype), U.T.contiguous().to(B.dtype)


def export_lora(adapter_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str]) -> LoraExport:
    """Writes the adapter in ``adapter_dir`` to ``out_dir`` as a PEFT LoRA adapter with the same outputs.

    Needs no base model. Trained heads and biases are carried over. The directory is complete or not there at all.
    Raises CdkaError if ``adapter_dir`` is not a CDKA adapter or ``out_dir`` holds anything already.
    """
    source, target = Path(adapter_dir), Path(out_dir)
    config, weights = _read(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CdkaError(f"the export needs a new or empty directory: got {str(target)!r}. Choose another or empty it.")
    lora, ranks = _convert(config, weights, source)
    text = _lora_config(config, ranks)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".export-", dir=target.parent))
        try:
            save_file(lora, partial / WEIGHTS_FILE, metadata={"format": "pt"})
            (partial / CONFIG_FILE).write_text(text, encoding="utf-8")
            partial.chmod(0o755)
            partial.replace(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise CdkaError(f"cannot write the LoRA adapter to {str(target)!r}: {reason}. Choose another place.") from None
    return LoraExport(target, ranks, _note(ranks))


def _read(source: Path) -> tuple[CdkaConfig, dict[str, Tensor]]:
    try:
        stored = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
        weights = load_file(source / WEIGHTS_FILE)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, SafetensorError) as error:
        problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CdkaError(
            f"an adapter directory holds {CONFIG_FILE} and {WEIGHTS_FILE}: got {str(source)!r} ({problem}). "
            "Give the directory that save_pretrained wrote."
        ) from None
    kind = stored.get("peft_type") if isinstance(stored, dict) else None
    if kind != PEFT_TYPE.value:
        raise CdkaError(f"only CDKA adapters need this export: got peft_type {kind!r} in {str(source)!r}.")
    known = set(CdkaConfig.__dataclass_fields__)
    return CdkaConfig(**{key: value for key, value in stored.items() if key in known}), weights


def _convert(config: CdkaConfig, weights: dict[str, Tensor], source: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    lora, ranks = {}, {}
    for key, A in weights.items():
        if key.endswith(".cdka_B"):
            continue
        if not key.endswith(".cdka_A"):
            lora[key] = A
            continue
        module = key.removesuffix(".cdka_A")
        name = module.removeprefix(_ROOT)
        B = weights.get(f"{module}.cdka_B")
        if B is None or A.dim() != 3 or B.dim() != 3 or len(A) != len(B):
            raise CdkaError(f"every module needs matching cdka_A and cdka_B: {name!r} in {str(source)!r} has not.")
        components = Components(A.shape[1], B.shape[2], A.shape[0])
        factors = lora_factors(A, B, components.scaling(config.alpha_for(name), config.scaling_rule))
        for part, factor in zip(("lora_A", "lora_B"), factors, strict=True):
            lora[f"{module}.{part}.weight"] = factor
        ranks[name] = components.r * components.r1 * components.r2
    if not ranks:
        raise CdkaError(f"an adapter has at least one adapted module: got none in {str(source)!r}.")
    return lora, ranks


def _lora_config(config: CdkaConfig, ranks: dict[str, int]) -> str:
    """The text of LoRA's ``adapter_config.json``, in which every module's alpha equals its rank: a scaling of one."""
    rank = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {f"^{name}": own for name, own in ranks.items() if own != rank}
    carried = (
        "task_type", "base_model_name_or_path", "revision", "auto_mapping", "target_modules", "exclude_modules",
        "modules_to_save", "layers_to_transform", "layers_pattern", "trainable_token_indices", "fan_in_fan_out",
    )  # fmt: skip
    lora = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        rank_pattern=pattern,
        alpha_pattern=dict(pattern),
        bias=config.bias.replace("cdka_only", "lora_only"),
        inference_mode=True,
        **{name: getattr(config, name) for name in carried},
    )
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in lora.to_dict().items()}
    return json.dumps(plain, indent=2, sort_keys=True)


def _note(ranks: dict[str, int]) -> str:
    largest = max(ranks.values())
    if largest <= SERVED_RANK:
        return ""
    return (
        f"The exact LoRA rank r*r1*r2 is {largest}, above the {SERVED_RANK} that LoRA servers commonly accept: raise "
        "the server's limit (in vLLM --max-lora-rank), or merge the adapter into the base model instead."
    )
