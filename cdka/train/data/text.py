"""From rows of text to splits of tokens, laid out for the model at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cdka.errors import CdkaError
from cdka.tasks.answers import read_option
from cdka.tasks.rows import Instruction, InstructionRows, Labelled, LabelledRows, Measured, MeasuredRows
from cdka.tasks.scores import Answers, number_scores, together
from cdka.train.data.objectives import Classification, Generation, NextToken, Regression
from cdka.train.data.ragged import Ragged
from cdka.train.data.splits import TextSplit
from cdka.train.data.task_data import TaskData
from cdka.train.heads import head_labels
from cdka.train.load_model import ModelTokenizer, load_tokenizer

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

MAX_NEW_TOKENS = 512
"""Where a task leaves the length of its answers open, no more than this is generated."""


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


def instruction_data(task: InstructionRows, spec: RunSpec) -> TaskData:
    """The data of an instruction task for a generative model: a causal one or an encoder-decoder.

    Raises CdkaError for a model that cannot generate text.
    """
    tokenizer = load_tokenizer(spec.model)
    if tokenizer.kind not in ("causal-lm", "seq2seq"):
        raise CdkaError(
            f"task {spec.task!r} needs a generative model (causal or encoder-decoder): got {spec.model!r}, "
            f"which is for {tokenizer.kind}. Choose another model, or a classification task."
        )
    most, notes = _answer_limit(task, tokenizer)
    cut = _Cut()
    splits = {
        name: _instruction_split(
            part, [row.prompt for row in part], [row.answer for row in part], name, tokenizer, spec, cut
        )
        for name, part in task.splits.items()
    }
    generation = Generation(most, (tokenizer.eos_id,), tokenizer.pad_id, tokenizer.decode, task.judge)
    objective = NextToken(1 if tokenizer.kind == "causal-lm" else 0, generation, task.scores)
    return TaskData(
        objective=objective, kind=tokenizer.kind, notes=(*task.notes, *notes, *cut.notes(spec.max_length)), **splits
    )


def _answer_limit(task: InstructionRows, tokenizer: ModelTokenizer) -> tuple[int, tuple[str, ...]]:
    """(tokens to generate at most, notes): the task's own limit, else the longest judged answer's length."""
    if task.max_new_tokens is not None:
        return task.max_new_tokens, ()
    judged = [row.answer for split in ("validation", "test") for row in task.splits[split]]
    longest = max(map(len, tokenizer.encode_answers(judged)))
    most = min(longest, MAX_NEW_TOKENS)
    if longest <= most:
        return most, ()
    return most, (
        f"The longest answer has {longest} tokens, and at most {most} are generated: raise max_new_tokens to let it "
        "come out.",
    )


def classification_data(task: LabelledRows, spec: RunSpec) -> TaskData:
    """The data of a text classification: a head on an encoder or decoder, or label names for an encoder-decoder."""
    tokenizer = load_tokenizer(spec.model)
    if tokenizer.kind == "image-classification":
        raise CdkaError(f"task {spec.task!r} is about text: got {spec.model!r}, an image model. Choose a text model.")
    if tokenizer.kind == "seq2seq":
        return _in_words(task, tokenizer, spec)
    cut = _Cut()
    head = head_labels(tokenizer.config, task.label_names)
    splits = {
        name: _classified(_renumbered(part, task.label_names, head.names), name, tokenizer, spec, cut)
        for name, part in task.splits.items()
    }
    return TaskData(
        objective=Classification(task.scores),
        num_labels=len(head.names),
        kind="text-classification",
        notes=(*task.notes, *filter(None, [head.note]), *cut.notes(spec.max_length)),
        label_names=head.names,
        **splits,
    )


def regression_data(task: MeasuredRows, spec: RunSpec) -> TaskData:
    """The data of a regression: a head with one output on an encoder or decoder. Raises CdkaError for other models."""
    tokenizer = load_tokenizer(spec.model)
    if tokenizer.kind not in ("text-classification", "causal-lm"):
        raise CdkaError(
            f"task {spec.task!r} puts one output on a text encoder or decoder: got {spec.model!r}, which is for "
            f"{tokenizer.kind}. Choose another model."
        )
    cut = _Cut()
    splits = {name: _classified(part, name, tokenizer, spec, cut) for name, part in task.splits.items()}
    numbers = np.array([row.value for row in task.splits["train"]])
    mean, spread = float(numbers.mean()), float(numbers.std()) or 1.0
    return TaskData(
        objective=Regression(mean, spread, together(number_scores, task.scores)),
        num_labels=1,
        kind="text-classification",
        notes=(
            *task.notes,
            *cut.notes(spec.max_length),
            f"the model learns (number - {mean:g}) / {spread:g}, the training numbers' mean and standard deviation.",
        ),
        **splits,
    )


def _renumbered(rows: Sequence[Labelled], before: Sequence[str], after: Sequence[str]) -> list[Labelled]:
    numbers = [after.index(name) for name in before]
    return [replace(row, label=numbers[row.label]) for row in rows]


def _in_words(task: LabelledRows, tokenizer: ModelTokenizer, spec: RunSpec) -> TaskData:
    names = task.label_names
    numbers = {name: number for number, name in enumerate(names)}

    def judge(texts: Sequence[str], references: Sequence[int]) -> Answers:
        options = [read_option(text, names) for text in texts]
        return Answers(list(references), [None if option is None else numbers[option] for option in options])

    def instruction(row: Labelled) -> Instruction:
        text = row.text if row.pair is None else f"{row.text} {row.pair}"
        return Instruction(f"{task.prefix}{text}", names[row.label], row.label, row.id)

    longest = max(len(tokenizer.encode_answer(name)) for name in names)
    rows = {split: [instruction(row) for row in part] for split, part in task.splits.items()}
    data = instruction_data(InstructionRows(rows, judge, longest, task.scores, task.notes), spec)
    return replace(data, label_names=names)


def _ids(rows: Sequence[Instruction | Labelled | Measured]) -> np.ndarray:
    return np.array([row.id for row in rows], dtype=np.int64)


def _instruction_split(
    rows: Sequence[Instruction],
    prompts: Sequence[str],
    answers: Sequence[str],
    split: str,
    tokenizer: ModelTokenizer,
    spec: RunSpec,
    cut: _Cut,
) -> TextSplit:
    limit = spec.max_length
    keep, sources, targets, shortened = [], [], [], 0
    encoded = zip(tokenizer.encode_prompts(prompts), tokenizer.encode_answers(answers), strict=True)
    for row, (source, target) in zip(rows, encoded, strict=True):
        if tokenizer.kind == "seq2seq":
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
        kind=tokenizer.kind,
        source=Ragged.of(sources),
        target=Ragged.of(targets),
        ids=_ids(keep),
        pad_id=tokenizer.pad_id,
        references=tuple(row.reference for row in keep),
        decoder_start_id=tokenizer.decoder_start_id,
    )


def _classified(
    rows: Sequence[Labelled | Measured], split: str, tokenizer: ModelTokenizer, spec: RunSpec, cut: _Cut
) -> TextSplit:
    pairs = [row.pair for row in rows] if any(row.pair is not None for row in rows) else None
    tokens, segments, shortened = tokenizer.encode_texts([row.text for row in rows], pairs, spec.max_length)
    if shortened:
        cut.shortened[split] = shortened
    return TextSplit(
        kind="text-classification",
        source=Ragged.of(tokens),
        ids=_ids(rows),
        pad_id=tokenizer.pad_id,
        classes=torch.tensor([row.label if isinstance(row, Labelled) else row.value for row in rows]),
        segments=None if segments is None else Ragged.of(segments),
    )
