"""Chains of arithmetic: sums, which the embedded model knows (``math``), and products, new to it (``math-chain``).

``8+27-6=`` is answered by the running totals, ``35,29``: the last one is the result. The shifted task begins with a
product, ``7*8-6=``, answered ``56,50``: the multiplication table is a hundred facts that have little to do with each
other, so accuracy rises fact by fact. What we tried before rises otherwise: another digit for every digit has to be
undone at once, and full fine-tuning (lr 1e-3, batch 64, 200 steps) got 0.24 of the chains right where it gets 0.94 of
the products; three-term sums after two-term ones jumped from 0.1 to 0.98 at random moments.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.options import check_known
from cdka.tasks.rows import SPLITS, Instruction, InstructionRows
from cdka.tasks.scores import judged_by

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

SEED = 2602
TERMS, LARGEST = (2, 3, 4), (9, 99)
"""A chain has so many terms, each of at most one or two digits; totals stay within 0..99."""
MAX_ANSWER_TOKENS = 9
"""Three totals of two digits, two commas, the end mark."""
PRODUCT_TERMS = (2, 3)
"""A chain that begins with a product of two digits has so many terms."""


def chain(rng: random.Random, terms: int, largest: int) -> tuple[str, str]:
    """A chain and its running totals: ("8+27-6=", "35,29")."""
    total = rng.randint(0, largest)
    return _continued(rng, str(total), total, [], terms - 1, largest)


def product_chain(rng: random.Random, terms: int, largest: int) -> tuple[str, str]:
    """A chain that begins with a product of two digits, and its running totals: ("7*8-6=", "56,50")."""
    left, right = rng.randint(0, 9), rng.randint(0, 9)
    product = left * right
    return _continued(rng, f"{left}*{right}", product, [str(product)], terms - 2, largest)


def _continued(
    rng: random.Random, written: str, total: int, totals: list[str], more: int, largest: int
) -> tuple[str, str]:
    for _ in range(more):
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


def random_product_chain(rng: random.Random) -> tuple[str, str]:
    """A chain of random difficulty that begins with a product."""
    return product_chain(rng, rng.choice(PRODUCT_TERMS), rng.choice(LARGEST))


def chains(
    sizes: dict[str, int], make: Callable[[random.Random], tuple[str, str]] = random_chain
) -> dict[str, list[tuple[str, str]]]:
    """Different chains for each split, the same every time."""
    rng = random.Random(SEED)
    found: dict[str, str] = {}
    while len(found) < sum(sizes.values()):
        prompt, answer = make(rng)
        found.setdefault(prompt, answer)
    pairs = iter(found.items())
    return {split: [next(pairs) for _ in range(sizes[split])] for split in SPLITS}


def read_totals(text: str) -> str | None:
    """The running totals as they were written; None where that is not a list of numbers."""
    text = text.strip()
    return text if text and all(part.isdecimal() for part in text.split(",")) else None


def read(info: TaskInfo, spec: RunSpec) -> InstructionRows:
    """The task's chains for the run's model; an answer is right when all its totals are."""
    check_known(spec.task_options, (), info.name)
    make = random_product_chain if info.name == "math-chain" else random_chain
    rows: dict[str, Any] = {}
    number = 0
    for split, pairs in chains(dict(info.examples), make).items():
        rows[split] = []
        for prompt, answer in pairs:
            rows[split].append(Instruction(prompt, answer, answer, number))
            number += 1
    return InstructionRows(rows, judge=judged_by(read_totals), max_new_tokens=MAX_ANSWER_TOKENS)
