"""Programs that load an exported adapter: ranks and flags of servers, what they drop, readers of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cdka.adapter_files.adapter_file import AdapterFile

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's ``--max-lora-rank``; an adapter takes the smallest that is not below its rank."""
VLLM_DEFAULT = 16

READERS = {
    "lora": ("PEFT", "transformers", "vLLM", "SGLang", "TGI", "llama.cpp (after conversion)"),
    "kohya": ("kohya sd-scripts", "ComfyUI", "AUTOMATIC1111", "InvokeAI", "diffusers"),
    "lokr": ("ComfyUI", "InvokeAI", "LyCORIS functional code", "mflux (by its description)"),
    "peft-lokr": ("PEFT",),
    "cdka": ("PEFT with import cdka.adapter",),
    "official": ("the research code of CDKA",),
    "storyaura": ("storyAura's trainer, with the same cdka_r1, cdka_r2, cdka_r",),
    "takenoko": ("takenoko (networks.cdka_wan)",),
}
"""Programs that load a file of each kind."""
NON_READERS = {
    "lokr": ("PEFT LoKrConfig", "diffusers", "OneTrainer", "kohya sd-scripts", "LyCORIS' module loader", "vLLM"),
    "peft-lokr": ("vLLM", "diffusers"),
    "cdka": ("PEFT without import cdka.adapter (KeyError: 'CDKA')", "vLLM"),
}
"""Programs that unexpectedly do not: the first group rebuilds both factors' shapes from one number."""


@dataclass(frozen=True)
class ServingPlan:
    """Facts for serving an exported file: its rank, vLLM's setting, its loaders, what servers drop or refuse."""

    rank: int
    vllm_max_lora_rank: int | None
    vllm_flag: str
    loads: tuple[str, ...]
    does_not_load: tuple[str, ...]
    drops: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The plan in sentences."""
        found = [f"Loads in: {', '.join(self.loads)}."]
        if self.does_not_load:
            found.append(f"Does not load in: {', '.join(self.does_not_load)}.")
        return [*found, *self.notes, *(f"vLLM: {text}." for text in self.drops)]


def serving_plan(adapter: AdapterFile, target: str, ranks: Mapping[str, int] | None = None) -> ServingPlan:
    """The plan for an adapter written as ``target``; ``ranks`` of its modules, by default those of the exact LoRA."""
    ranks = ranks or {module.name: module.factors.lora_rank for module in adapter.modules}
    rank = max(ranks.values())
    smallest = next((value for value in VLLM_RANKS if value >= rank), None)
    notes, drops, flag = [], [], ""
    if target == "lora":
        if smallest is None:
            notes.append(
                f"The rank is {rank}, above the {VLLM_RANKS[-1]} that vLLM serves: merge the adapter into the base "
                "model."
            )
        elif smallest > VLLM_DEFAULT:
            flag = f"--max-lora-rank {smallest}"
            notes.append(
                f"The rank is {rank}, and a stock vLLM refuses more than {VLLM_DEFAULT}: start it with --enable-lora "
                f"{flag}."
            )
        if len(set(ranks.values())) > 1:
            drops.append(
                "rank_pattern and alpha_pattern are ignored there, so r is the largest rank and all scalings are "
                "folded in"
            )
        if adapter.config.get("modules_to_save") or adapter.extra:
            drops.append("trained heads (modules_to_save) and biases are refused there: merge the adapter instead")
        if any(max(module.kernel, default=1) > 1 for module in adapter.modules):
            notes.append(
                "PEFT's LoRA of a convolution pads with zeros: where the layer has another padding_mode, merge."
            )
    elif target == "lokr":
        notes.append("Readers that rebuild shapes from one factor fail on it: give those the LoRA (--to lora).")
    return ServingPlan(
        rank=rank,
        vllm_max_lora_rank=smallest if target == "lora" else None,
        vllm_flag=flag,
        loads=READERS[target],
        does_not_load=NON_READERS.get(target, ()),
        drops=tuple(drops),
        notes=tuple(notes),
    )
