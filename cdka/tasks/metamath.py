"""Mathematical reasoning: learn from MetaMathQA, answer GSM8K."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError
from cdka.tasks import hub
from cdka.tasks.answers import final_number, read_number
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.options import check_known, whole_number
from cdka.tasks.prompts import INSTRUCTION
from cdka.tasks.rows import Instruction, InstructionRows
from cdka.tasks.scores import judged_by

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

METAMATH = hub.Source("meta-math/MetaMathQA", ("MetaMathQA-395K.json",), option="metamath")
GSM8K = hub.Source("openai/gsm8k", ("main/*.parquet",), option="gsm8k")
OPTIONS = ("metamath", "gsm8k", "train_examples", "validation_examples", "test_examples", "max_new_tokens")
TRAIN_EXAMPLES, VALIDATION_EXAMPLES, MAX_NEW_TOKENS = 100_000, 256, 512


def fetch(_info: TaskInfo, spec: RunSpec) -> Generator[dict[str, Any], None, None]:
    """Fetch both data sets; yields the progress."""
    check_known(spec.task_options, OPTIONS, spec.task)
    yield from hub.fetch((METAMATH, GSM8K), spec)


def _gsm8k(table: Any, rows: Any, offset: int) -> list[Instruction]:
    found = []
    for number, row in zip(rows.tolist(), table.select(rows), strict=True):
        reference = read_number(row["answer"].rpartition("####")[2])
        if reference is None:
            raise CdkaError(f"GSM8K row {number} must end in '#### NUMBER': got {row['answer'][-40:]!r}.")
        found.append(Instruction(INSTRUCTION.format(prompt=row["question"]), row["answer"], reference, offset + number))
    return found


def read(_info: TaskInfo, spec: RunSpec) -> InstructionRows:
    """Train on MetaMathQA; judge on GSM8K: curves on a fixed part of its training split, the end on its test split.

    An answer is right when the number that it declares equals the reference; where it declares none, it is None.
    """
    check_known(spec.task_options, OPTIONS, spec.task)
    sizes = hub.sizes(spec, train=TRAIN_EXAMPLES, validation=VALIDATION_EXAMPLES, test=None)
    taught = hub.read(METAMATH, spec, "train", ("query", "response"))
    asked = {split: hub.read(GSM8K, spec, split, ("question", "answer")) for split in ("train", "test")}
    chosen = hub.subset(len(taught), sizes["train"])
    rows = {
        "train": [
            Instruction(INSTRUCTION.format(prompt=row["query"]), row["response"], None, number)
            for number, row in zip(chosen.tolist(), taught.select(chosen), strict=True)
        ],
        "validation": _gsm8k(asked["train"], hub.subset(len(asked["train"]), sizes["validation"]), 0),
        "test": _gsm8k(asked["test"], hub.subset(len(asked["test"]), sizes["test"]), len(asked["train"])),
    }
    return InstructionRows(
        rows,
        judge=judged_by(final_number),
        max_new_tokens=whole_number(spec.task_options, "max_new_tokens", MAX_NEW_TOKENS),
        notes=("The validation questions are from GSM8K's training split, from which MetaMathQA was made.",),
    )
