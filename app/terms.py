"""The words of a room at its foot, each a link to its entry in the glossary."""

from __future__ import annotations

from app import parts
from app.glossary import glossary_link

ROOM_TERMS = {
    "design": (
        "r1",
        "r2",
        "r",
        "target modules",
        "budget",
        "alignment",
        "rank",
        "rank bound",
        "scaling",
        "FLOPs",
        "delta W",
        "LoRA",
        "full fine-tuning",
        "Pareto front",
        "residual budget",
    ),
    "align": (
        "r1",
        "r2",
        "r",
        "alignment",
        "gradient",
        "rank",
        "delta W",
        "LoRA",
        "full fine-tuning",
        "validation accuracy",
        "confidence interval",
    ),
    "finetune": (
        "r1",
        "r2",
        "r",
        "target modules",
        "alpha",
        "scaling",
        "learning rate",
        "alignment",
        "rank",
        "LoRA",
        "LoKr",
        "full fine-tuning",
        "validation accuracy",
        "confidence interval",
    ),
    "sweeps": (
        "r1",
        "r2",
        "r",
        "arm",
        "budget",
        "alpha",
        "scaling",
        "learning rate",
        "alignment",
        "rank",
        "LoRA",
        "rsLoRA",
        "LoKr",
        "full fine-tuning",
        "validation accuracy",
        "confidence interval",
    ),
    "compare": (
        "r1",
        "r2",
        "r",
        "arm",
        "budget",
        "rank",
        "validation accuracy",
        "confidence interval",
        "anecdotal",
        "Holm correction",
        "Pareto front",
        "LoRA",
    ),
}
"""What a reader may meet in each room, in the order of meeting it. Learn links its words where they stand."""


def foot(room: str) -> None:
    """Draws the links of ``room``; nothing where it has none."""
    names = ROOM_TERMS.get(room, ())
    if names:
        links = " · ".join(glossary_link(name) for name in names)
        parts.show(f'<nav class="cdka-words" aria-label="Words on this page">Words on this page: {links}</nav>')
