"""GLUE: sentences and pairs of sentences to classify, for encoders (a head) and for T5 (label words)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdka.tasks import hub
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.options import check_known
from cdka.tasks.rows import Labelled, LabelledRows
from cdka.tasks.scores import Scores, binary_f1, matthews

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

OPTIONS = ("mirror", "train_examples", "validation_examples", "test_examples")
VALIDATION_EXAMPLES = 500


@dataclass(frozen=True)
class _Set:
    """The text columns, the label words that T5 was taught, the public split that is judged, and further scores."""

    columns: tuple[str, ...]
    words: tuple[str, ...]
    judged: str = "validation"
    scores: Scores | None = None


SETS = {
    "sst2": _Set(("sentence",), ("negative", "positive")),
    "cola": _Set(("sentence",), ("unacceptable", "acceptable"), scores=matthews),
    "qnli": _Set(("question", "sentence"), ("entailment", "not_entailment")),
    "mrpc": _Set(("sentence1", "sentence2"), ("not_equivalent", "equivalent"), scores=binary_f1),
    "mnli": _Set(("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), "validation_matched"),
    "qqp": _Set(("question1", "question2"), ("not_duplicate", "duplicate"), scores=binary_f1),
}


def _source(name: str) -> hub.Source:
    return hub.Source("nyu-mll/glue", (f"{name}/*.parquet",))


def _name(info: TaskInfo) -> str:
    return info.name.removeprefix("glue-")


def fetch(info: TaskInfo, spec: RunSpec) -> Generator[dict[str, Any], None, None]:
    """Fetch the task's files; yields the progress."""
    check_known(spec.task_options, OPTIONS, spec.task)
    yield from hub.fetch((_source(_name(info)),), spec)


def _rows(table: Any, numbers: Any, columns: tuple[str, ...], offset: int) -> list[Labelled]:
    return [
        Labelled(row[columns[0]], row["label"], offset + number, row[columns[1]] if len(columns) == 2 else None)
        for number, row in zip(numbers.tolist(), table.select(numbers), strict=True)
    ]


def read(info: TaskInfo, spec: RunSpec) -> LabelledRows:
    """Train and validation from GLUE's training split; test is GLUE's validation split, whose labels are public."""
    check_known(spec.task_options, OPTIONS, spec.task)
    name = _name(info)
    known = SETS[name]
    sizes = hub.sizes(spec, train=None, validation=VALIDATION_EXAMPLES, test=None)
    columns = (*known.columns, "label")
    taught = hub.read(_source(name), spec, "train", columns)
    judged = hub.read(_source(name), spec, known.judged, columns)
    train, validation = hub.held_out(len(taught), sizes["validation"], sizes["train"])
    rows = {
        "train": _rows(taught, train, known.columns, 0),
        "validation": _rows(taught, validation, known.columns, 0),
        "test": _rows(judged, hub.subset(len(judged), sizes["test"]), known.columns, len(taught)),
    }
    return LabelledRows(
        rows,
        known.words,
        prefix=f"{name} ",
        scores=known.scores,
        notes=(f"GLUE keeps its test labels secret: judged on its {known.judged} split.",),
    )
