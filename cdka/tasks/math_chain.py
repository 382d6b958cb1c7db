"""Chains of sums: the embedded arithmetic, in ordinary digits (``math``) or in shifted ones (``math-chain``).

``8+27-6=`` is answered by the running totals, ``35,29``: the last one is the result. In the shifted task every digit
is written as another one, by a fixed permutation without fixed points: the sums and the way to do them stay, the
surface changes, and what is to be learnt comes digit by digit rather than all at once.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.data import TaskData
from cdka.tasks.rows import SPLITS, Instruction
from cdka.tasks.text import instruction_data, judged_by

if TYPE_CHECKING:
    from cdka.finetune.spec import RunSpec

SEED = 2602
TERMS, LARGEST = (2, 3, 4), (9, 99)
"""A chain has so many terms, each of at most one or two digits; totals stay within 0..99."""
MAX_ANSWER_TOKENS = 9
"""Three totals of two digits, two commas, the end mark."""
SHIFT = str.maketrans("0123456789", "7418529630")
"""Digit d is written as the d-th of these."""


def chain(rng: random.Random, terms: int, largest: int) -> tuple[str, str]:
    """A chain and its running totals: ("8+27-6=", "35,29")."""
    total = rng.randint(0, largest)
    written, totals = str(total), []
    for _ in range(terms - 1):
        if rng.random() < 0.5:
            term = rng.randint(0, min(largest, 99 - total))
            written, total = f"{written}+{term}", total + term
        else:
            term = rng.randint(0, min(largest, total))
            written, total = f"{written}-{term}", total - term
        totals.append(str(total))
    return written + "=", ",".join(totals)


def random_chain(rng: random.Random) -> tuple[str, str]:
    """A chain of random difficulty."""
    return chain(rng, rng.choice(TERMS), rng.choice(LARGEST))


def chains(sizes: dict[str, int]) -> dict[str, list[tuple[str, str]]]:
    """Different chains for each split, the same every time."""
    rng = random.Random(SEED)
    found: dict[str, str] = {}
    while len(found) < sum(sizes.values()):
        prompt, answer = random_chain(rng)
        found.setdefault(prompt, answer)
    pairs = iter(found.items())
    return {split: [next(pairs) for _ in range(sizes[split])] for split in SPLITS}


def read_totals(text: str) -> str | None:
    """The running totals as they were written; None where that is not a list of numbers."""
    text = text.strip()
    return text if text and all(part.isdecimal() for part in text.split(",")) else None


def load(info: TaskInfo, spec: RunSpec) -> TaskData:
    """The task's chains for the run's model; an answer is right when all its totals are."""
    shifted = info.name == "math-chain"
    rows, number = {}, 0
    for split, pairs in chains(dict(info.examples)).items():
        rows[split] = []
        for prompt, answer in pairs:
            if shifted:
                prompt, answer = prompt.translate(SHIFT), answer.translate(SHIFT)
            rows[split].append(Instruction(prompt, answer, answer, number))
            number += 1
    return instruction_data(rows, spec, judge=judged_by(read_totals), max_new_tokens=MAX_ANSWER_TOKENS)
