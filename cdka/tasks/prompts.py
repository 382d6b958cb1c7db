"""The fixed prompts. Free of torch."""

from __future__ import annotations

INSTRUCTION = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)
"""The Alpaca prompt, which MetaMath was made with."""

INSTRUCTION_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Input:\n{input}\n\n### Response:\n"
)


def options_text(question: str, letters: list[str], texts: list[str]) -> str:
    """A question with lettered options, answered by a letter."""
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    return f"{question}\n{listed}\nAnswer with the letter of the right option."
