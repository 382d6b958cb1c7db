"""What an option costs beyond its parameters: file, optimizer, arithmetic, memory."""

from __future__ import annotations

from app import parts, words
from cdka.solver import Option, Solution


def show(option: Option, solution: Solution) -> None:
    """The costs as a small table."""
    rows = [
        ("adapter file, at most", words.size(option.adapter_bytes)),
        ("optimizer state (AdamW)", words.size(option.optimizer_bytes)),
        (
            "extra arithmetic per token",
            f"{words.count(option.flops_per_token)}FLOP, {words.percent(option.flops_overhead)}",
        ),
    ]
    body = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    parts.show(f'<table class="cdka-costs">{body}</table>')
