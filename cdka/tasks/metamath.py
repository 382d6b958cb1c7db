"""Mathematical reasoning: learn from MetaMathQA or from GSM8K itself, answer GSM8K."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError
from cdka.tasks import hub
from cdka.tasks.answers import final_number, read_number
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.options import check_known, whole_number
from cdka.tasks.prompts import INSTRUCTION
from cdka.tasks.rows import Instruction, InstructionRows, Message
from cdka.tasks.scores import judged_by

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

METAMATH = hub.Source("meta-math/MetaMathQA", ("MetaMathQA-395K.json",), option="metamath")
GSM8K = hub.Source("openai/gsm8k", ("main/*.parquet",), option="gsm8k")
OPTIONS = ("metamath", "gsm8k", "train_examples", "validation_examples", "test_examples", "max_new_tokens")
GSM8K_OPTIONS = tuple(name for name in OPTIONS if name != "metamath")
TRAIN_EXAMPLES, VALIDATION_EXAMPLES, MAX_NEW_TOKENS = 100_000, 256, 512


def fetch(info: TaskInfo, spec: RunSpec) -> Generator[dict[str, Any], None, None]:
    """Fetch the data sets; yields the progress."""
    alone = info.name == "gsm8k"
    check_known(spec.task_options, GSM8K_OPTIONS if alone else OPTIONS, spec.task)
    yield from hub.fetch((GSM8K,) if alone else (METAMATH, GSM8K), spec)


def _gsm8k(table: Any, rows: Any, offset: int) -> list[Instruction]:
    found = []
    for number, row in zip(rows.tolist(), table.select(rows), strict=True):
        reference = read_number(row["answer"].rpartition("####")[2])
        if reference is None:
            raise CdkaError(f"GSM8K row {number} must end in '#### NUMBER': got {row['answer'][-40:]!r}.")
        found.append(_row(row["question"], row["answer"], reference, offset + number))
    return found


def _row(question: str, answer: str, reference: str | None, number: int) -> Instruction:
    prompt = INSTRUCTION.format(prompt=question)
    return Instruction(prompt, answer, reference, number, (Message("user", question),))


def read(info: TaskInfo, spec: RunSpec) -> InstructionRows:
    """The rows of ``gsm8k`` or of ``metamath-gsm8k``."""
    return _read_gsm8k(spec) if info.name == "gsm8k" else _read_metamath(spec)


def _read_gsm8k(spec: RunSpec) -> InstructionRows:
    """Train and validation from GSM8K's training split, test from its test split; answers are judged as below."""
    check_known(spec.task_options, GSM8K_OPTIONS, spec.task)
    sizes = hub.sizes(spec, train=None, validation=VALIDATION_EXAMPLES, test=None)
    taught, asked = (hub.read(GSM8K, spec, split, ("question", "answer")) for split in ("train", "test"))
    train, validation = hub.held_out(len(taught), sizes["validation"], sizes["train"])
    rows = {
        "train": _gsm8k(taught, train, 0),
        "validation": _gsm8k(taught, validation, 0),
        "test": _gsm8k(asked, hub.subset(len(asked), sizes["test"]), len(taught)),
    }
    limit = whole_number(spec.task_options, "max_new_tokens", None)
    return InstructionRows(rows, judge=judged_by(final_number), max_new_tokens=limit)


def _read_metamath(spec: RunSpec) -> InstructionRows:
    """Train on the first 100,000 rows of MetaMathQA made from GSM8K; judge on GSM8K.

    Curves are on a fixed part of its training split, the end on its test split.

    An answer is right when the number that it declares equals the reference; where it declares none, it is None. The
    paper's code cuts the line "The answer is: ..." off the answers to learn; we keep it, for it is what is judged.
    """
    check_known(spec.task_options, OPTIONS, spec.task)
    sizes = hub.sizes(spec, train=TRAIN_EXAMPLES, validation=VALIDATION_EXAMPLES, test=None)
    taught = hub.read(METAMATH, spec, "train", ("query", "response", "type"))
    chosen = [number for number, kind in enumerate(taught["type"]) if "GSM" in kind][: sizes["train"]]
    asked = {split: hub.read(GSM8K, spec, split, ("question", "answer")) for split in ("train", "test")}
    rows = {
        "train": [
            _row(row["query"], row["response"], None, number)
            for number, row in zip(chosen, taught.select(chosen), strict=True)
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
