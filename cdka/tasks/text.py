"""From rows of text to splits of tokens, laid out for the model at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cdka.errors import CdkaError
from cdka.models.loading import Reader, load_reader
from cdka.tasks.answers import read_option
from cdka.tasks.data import TaskData
from cdka.tasks.objectives import Answers, Classification, Generation, Scores, Writing
from cdka.tasks.ragged import Ragged
from cdka.tasks.rows import Instruction, Labelled, SplitRows
from cdka.tasks.splits import TextSplit

if TYPE_CHECKING:
    from cdka.finetune.spec import RunSpec

Judge = Callable[[Sequence[str], Sequence[Any]], Answers]


def judged_by(read: Callable[[str], Any]) -> Judge:
    """A judge that reads an answer out of each text (None: there is none) and compares it with the reference."""
    return lambda texts, references: Answers(list(references), [read(text) for text in texts])


@dataclass
class _Cut:
    """How many examples a length limit touched, split by split."""

    shortened: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def notes(self, limit: int) -> tuple[str, ...]:
        told = []
        for split, number in self.shortened.items():
            told.append(f"{number} {split} examples are longer than max_length={limit} tokens and were cut.")
        for split, number in self.left_out.items():
            told.append(
                f"{number} {split} examples were left out: their prompt alone fills max_length={limit} tokens, so no "
                "answer could be learned from them."
            )
        return tuple(told)


def instruction_data(
    rows: SplitRows[Instruction],
    spec: RunSpec,
    *,
    judge: Judge,
    max_new_tokens: int,
    scores: Scores | None = None,
    notes: Sequence[str] = (),
) -> TaskData:
    """The data of an instruction task for a model that writes: a causal one or an encoder-decoder.

    Raises CdkaError for a model that cannot write.
    """
    reader = load_reader(spec.model)
    if reader.kind not in ("causal-lm", "seq2seq"):
        raise CdkaError(
            f"task {spec.task!r} needs a model that writes (causal or encoder-decoder): got {spec.model!r}, "
            f"which is for {reader.kind}. Choose another model, or a classification task."
        )
    cut = _Cut()
    splits = {
        name: _written(part, [row.prompt for row in part], [row.answer for row in part], name, reader, spec, cut)
        for name, part in rows.items()
    }
    generation = Generation(max_new_tokens, (reader.eos_id,), reader.pad_id, reader.decode, judge)
    objective = Writing(1 if reader.kind == "causal-lm" else 0, generation, scores)
    return TaskData(
        objective=objective, kind=reader.kind, notes=(*notes, *cut.notes(spec.max_length)), **splits
    )  # fmt: skip


def classification_data(
    rows: SplitRows[Labelled],
    spec: RunSpec,
    label_names: Sequence[str],
    *,
    prefix: str = "",
    scores: Scores | None = None,
    notes: Sequence[str] = (),
) -> TaskData:
    """The data of a text classification: a head on an encoder or decoder, or label words for an encoder-decoder.

    ``prefix`` goes before the text of an encoder-decoder (T5 is told the task's name).
    """
    reader = load_reader(spec.model)
    if reader.kind == "image-classification":
        raise CdkaError(f"task {spec.task!r} is about text: got {spec.model!r}, an image model. Choose a text model.")
    if reader.kind == "seq2seq":
        return _in_words(rows, spec, label_names, prefix, scores, notes)
    cut = _Cut()
    splits = {name: _classified(part, name, reader, spec, cut) for name, part in rows.items()}
    return TaskData(
        objective=Classification(scores), num_labels=len(label_names), kind="text-classification",
        notes=(*notes, *cut.notes(spec.max_length)), label_names=tuple(label_names), **splits,
    )  # fmt: skip


def _in_words(
    rows: SplitRows[Labelled],
    spec: RunSpec,
    label_names: Sequence[str],
    prefix: str,
    scores: Scores | None,
    notes: Sequence[str],
) -> TaskData:
    numbers = {name: number for number, name in enumerate(label_names)}

    def judge(texts: Sequence[str], references: Sequence[int]) -> Answers:
        said = [read_option(text, label_names) for text in texts]
        return Answers(list(references), [None if word is None else numbers[word] for word in said])

    written: Mapping[str, Sequence[Instruction]] = {
        name: [
            Instruction(f"{prefix}{row.text}" if row.pair is None else f"{prefix}{row.text} {row.pair}",
                        label_names[row.label], row.label, row.id)
            for row in part
        ]
        for name, part in rows.items()
    }  # fmt: skip
    longest = max(len(load_reader(spec.model).encode_answer(name)) for name in label_names)
    data = instruction_data(written, spec, judge=judge, max_new_tokens=longest, scores=scores, notes=notes)
    return TaskData(**{**vars(data), "label_names": tuple(label_names)})


def _ids(rows: Sequence[Instruction | Labelled]) -> np.ndarray:
    return np.array([row.id for row in rows], dtype=np.int64)


def _written(
    rows: Sequence[Instruction],
    prompts: Sequence[str],
    answers: Sequence[str],
    split: str,
    reader: Reader,
    spec: RunSpec,
    cut: _Cut,
) -> TextSplit:
    limit = spec.max_length
    keep, sources, targets, shortened = [], [], [], 0
    encoded = zip(reader.encode_prompts(prompts), reader.encode_answers(answers), strict=True)
    for row, (source, target) in zip(rows, encoded, strict=True):
        if reader.kind == "seq2seq":
            shortened += len(source) > limit or len(target) > limit
            source, target = source[:limit], target[:limit]
        elif split == "train":
            if len(source) >= limit:
                continue
            shortened += len(source) + len(target) > limit
            target = target[: limit - len(source)]
        else:  # judged examples all stay: of a prompt that is too long, the end is kept
            shortened += len(source) > limit
            source = source[-limit:]
        keep.append(row)
        sources.append(source)
        targets.append(target)
    if shortened:
        cut.shortened[split] = shortened
    if len(keep) < len(rows):
        cut.left_out[split] = len(rows) - len(keep)
    if not keep:
        raise CdkaError(
            f"no {split} example of {spec.task!r} fits in max_length={limit} tokens. Raise --max-length; "
            "the length histogram of the data shows what is needed."
        )
    return TextSplit(
        kind=reader.kind, source=Ragged.of(sources), target=Ragged.of(targets), ids=_ids(keep), pad_id=reader.pad_id,
        references=tuple(row.reference for row in keep), decoder_start_id=reader.decoder_start_id,
    )  # fmt: skip


def _classified(rows: Sequence[Labelled], split: str, reader: Reader, spec: RunSpec, cut: _Cut) -> TextSplit:
    pairs = [row.pair for row in rows] if any(row.pair is not None for row in rows) else None
    tokens, segments, shortened = reader.encode_texts([row.text for row in rows], pairs, spec.max_length)
    if shortened:
        cut.shortened[split] = shortened
    return TextSplit(
        kind="text-classification", source=Ragged.of(tokens), ids=_ids(rows), pad_id=reader.pad_id,
        classes=torch.tensor([row.label for row in rows]), segments=None if segments is None else Ragged.of(segments),
    )  # fmt: skip
