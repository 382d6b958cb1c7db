"""Commonsense questions with options, from several public sets, all in one form: a question, options, one letter."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdka.tasks import hub
from cdka.tasks.answers import read_option
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.options import check_known
from cdka.tasks.prompts import INSTRUCTION, options_text
from cdka.tasks.rows import Instruction, InstructionRows
from cdka.tasks.scores import judged_by

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

LETTERS = ("A", "B", "C", "D", "E")
OPTIONS = ("mirror", "train_examples", "validation_examples", "test_examples")
Asked = tuple[str, list[str], int]
"""A question, its options, and the number of the right one."""


def _choices(question: str) -> Callable[[Mapping[str, Any]], Asked]:
    def read(row: Mapping[str, Any]) -> Asked:
        options = row["choices"]
        return row[question], list(options["text"]), list(options["label"]).index(row["answerKey"])

    return read


def _boolq(row: Mapping[str, Any]) -> Asked:
    return f"{row['passage']}\nQuestion: {row['question']}?", ["yes", "no"], 0 if row["answer"] else 1


def _hellaswag(row: Mapping[str, Any]) -> Asked:
    return f"How does this go on? {row['ctx']}", list(row["endings"]), int(row["label"])


@dataclass(frozen=True)
class _Set:
    """A data set: its place, its columns, the judged split, and the question made of a row."""

    source: hub.Source
    columns: tuple[str, ...]
    judged: str
    read: Callable[[Mapping[str, Any]], Asked]


_ARC = ("question", "choices", "answerKey")
SETS = {
    "arc-easy": _Set(hub.Source("allenai/ai2_arc", ("ARC-Easy/*.parquet",)), _ARC, "test", _choices("question")),
    "arc-challenge": _Set(
        hub.Source("allenai/ai2_arc", ("ARC-Challenge/*.parquet",)), _ARC, "test", _choices("question")
    ),
    "openbookqa": _Set(
        hub.Source("allenai/openbookqa", ("main/*.parquet",)),
        ("question_stem", "choices", "answerKey"),
        "test",
        _choices("question_stem"),
    ),
    "commonsense-qa": _Set(
        hub.Source("tau/commonsense_qa", ("data/*.parquet",)), _ARC, "validation", _choices("question")
    ),
    "boolq": _Set(
        hub.Source("google/boolq", ("data/*.parquet",)), ("question", "passage", "answer"), "validation", _boolq
    ),
    "hellaswag": _Set(
        hub.Source("Rowan/hellaswag", ("data/*.parquet",)), ("ctx", "endings", "label"), "validation", _hellaswag
    ),
}
"""By task name. A set whose test answers are secret is judged on its validation split."""
VALIDATION_EXAMPLES = 256


def fetch(info: TaskInfo, spec: RunSpec) -> Generator[dict[str, Any], None, None]:
    """Fetch the task's data set; yields the progress."""
    check_known(spec.task_options, OPTIONS, spec.task)
    yield from hub.fetch((SETS[info.name].source,), spec)


def _rows(table: Any, numbers: Any, read: Callable[[Mapping[str, Any]], Asked], offset: int) -> list[Instruction]:
    found = []
    for number, row in zip(numbers.tolist(), table.select(numbers), strict=True):
        question, options, right = read(row)
        prompt = INSTRUCTION.format(prompt=options_text(question, list(LETTERS[: len(options)]), options))
        found.append(Instruction(prompt, LETTERS[right], LETTERS[right], offset + number))
    return found


def read(info: TaskInfo, spec: RunSpec) -> InstructionRows:
    """Train and validation from the set's training split, test from the split whose answers are public."""
    check_known(spec.task_options, OPTIONS, spec.task)
    known = SETS[info.name]
    sizes = hub.sizes(spec, train=None, validation=VALIDATION_EXAMPLES, test=None)
    taught = hub.read(known.source, spec, "train", known.columns)
    judged = hub.read(known.source, spec, known.judged, known.columns)
    train, validation = hub.held_out(len(taught), sizes["validation"], sizes["train"])
    rows = {
        "train": _rows(taught, train, known.read, 0),
        "validation": _rows(taught, validation, known.read, 0),
        "test": _rows(judged, hub.subset(len(judged), sizes["test"]), known.read, len(taught)),
    }
    notes = () if known.judged == "test" else ("Test answers are secret: judged on the public validation split.",)
    return InstructionRows(
        rows, judge=judged_by(lambda text: read_option(text, LETTERS)), max_new_tokens=4, notes=notes
    )
