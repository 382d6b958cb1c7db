"""The studies: which claim of the paper each one tests, and by what design. Free of torch.

``arms(layers, base_params)`` gives the settings of each arm for the model at hand; ``judgement`` names the rule in
``judge`` that turns the finished runs into a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cdka.errors import unknown
from cdka.models.shapes import LinearShape
from cdka.studies import designs

Arms = Callable[[Sequence[LinearShape], int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Study:
    """One study. ``regimes`` names the training regimes it runs in, ``baselines`` methods matched by parameters."""

    name: str
    title: str
    claim: str
    source: str
    design: str
    arms: Arms
    judgement: str
    regimes: tuple[str, ...] = ("early", "tuned")
    baselines: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    needs: str = ""
    """What the model must have beyond linear layers: ``"context"`` for more than 8,192 positions, ``"images"``."""


_ALL = (
    Study(
        "r1", "Does a larger r1 hurt?",
        "Increasing r1 degrades performance, r2 and r held fixed.",
        "paper, key results and first experiment (r1 from 4 to 64)",
        "One component, r2 = 4, and r1 doubling from 4 to 64 as far as the model's dimensions allow.",
        designs.vary_r1, "falls",
    ),
    Study(
        "r2", "Does a larger r2 help?",
        "Increasing r2 improves performance, r1 and r held fixed.",
        "paper, key results and second experiment (r2 from 4 to 64)",
        "One component, r1 = 4, and r2 doubling from 4 to 64 as far as the model's dimensions allow.",
        designs.vary_r2, "rises",
    ),
    Study(
        "r", "Does r have diminishing returns?",
        "Increasing the number of components helps, and each doubling helps less than the one before.",
        "paper, key results and third experiment (r from 1 to 8)",
        "Components of (2, 4) and r = 1, 2, 4, 8: does the metric rise, and does the first doubling gain more than the "
        "last?",
        designs.vary_r, "diminishes",
    ),
    Study(
        "budget", "Do the principles hold at every budget?",
        "At 5 % to 25 % of the adapted weights, spending a budget on a small r1 and a large r2 beats the reverse.",
        "paper card, next check 1 (budget sweep 5 % - 25 %)",
        "At 5, 10, 15, 20 and 25 % of the adapted weights, the option of highest predicted alignment against the one "
        "of lowest, both using at least 80 % of the budget.",
        designs.budget_pairs, "pairs",
    ),
    Study(
        "equal-budget", "Does CDKA beat LoRA at equal parameters?",
        "At the parameters of LoRA rank 8, CDKA reaches a higher accuracy than LoRA.",
        "paper, key results",
        "The solver's best-aligned option that is not LoRA itself, and the paper's default where it fits, against LoRA "
        "(rsLoRA scaling and plain), LoKr and full fine-tuning; every arm at the same three learning rates, chosen on "
        "validation.",
        designs.lora_8, "beats_lora", regimes=("searched",), baselines=("lora:8", "lora-plain:8", "lokr", "full"),
    ),
    Study(
        "eighth", "Is an eighth of LoRA's parameters enough?",
        "CDKA with 12.5 % of the parameters of LoRA rank 8 comes within one point of it.",
        "paper, key results (natural language understanding at 12.5 %)",
        "The solver's best option for an eighth of the parameters of LoRA rank 8, against LoRA rank 8 itself; every "
        "arm at the same three learning rates, chosen on validation. Margin: 0.01.",
        designs.an_eighth, "close_to_lora", regimes=("searched",), baselines=("lora:8",),
    ),
    Study(
        "stabilisation", "Does the scaling rule stabilise training?",
        "Large components train unstably without the factor 1 / sqrt(r r2), and stably with it.",
        "paper, training stabilisation",
        "Large components under four scaling rules at one alpha: 1/sqrt(r r2), 1/sqrt(r), 1/r and none. A run whose "
        "loss is no longer finite counts as unstable, never as an accuracy of zero.",
        designs.scaling_rules, "stabilises", regimes=("tuned",),
    ),
    Study(
        "alignment", "Does predicted alignment tell the outcome?",
        "Configurations that align better with the first full fine-tuning step end up more accurate.",
        "ours, from the paper's explanation",
        "Twelve configurations that spread over r1, r2 and r: rank correlation of predicted alignment with accuracy.",
        designs.spread, "correlates",
    ),
    Study(
        "long-context", "Do the principles hold beyond 8,192 tokens?",
        "A larger r2 still helps, and CDKA still holds against LoRA, when sequences are longer than 8,192 tokens.",
        "paper card, next check 2",
        "r2 doubling at fixed r1 and r on sequences of more than 8,192 tokens, with activations recomputed.",
        designs.vary_r2, "rises", regimes=("tuned",), baselines=("lora",), needs="context",
        settings=MappingProxyType({"max_length": 12_288, "gradient_checkpointing": True, "batch_size": 1}),
    ),
    Study(
        "vision", "Do the principles hold for images?",
        "On a vision model, r2 helps and CDKA holds against LoRA at equal parameters.",
        "paper card, next check 3",
        "r2 doubling at fixed r1 and r on an image model, with LoRA and full fine-tuning beside it.",
        designs.vary_r2, "rises", baselines=("lora", "full"), needs="images",
    ),
)  # fmt: skip

STUDIES: dict[str, Study] = {study.name: study for study in _ALL}
GROUPS: dict[str, tuple[str, ...]] = {"trends": ("r1", "r2", "r")}
"""Several studies under one name."""


def find_study(name: str) -> Study:
    """The study called ``name``; raises CdkaError with the nearest names where there is none."""
    if name not in STUDIES:
        raise unknown("study", name, [*STUDIES, *GROUPS], next_step="List them with: cdka study list")
    return STUDIES[name]
