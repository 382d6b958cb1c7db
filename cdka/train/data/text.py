"""From rows of text to splits of tokens, laid out for the model at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cdka.errors import CdkaError
from cdka.runs.spec import AUTO, GUESSED_LENGTH
from cdka.tasks.answers import read_option
from cdka.tasks.own_metric import by_name
from cdka.tasks.rows import (
    Instruction,
    InstructionRows,
    Labelled,
    LabelledRows,
    Measured,
    MeasuredRows,
    TextRows,
)
from cdka.tasks.scores import Answers, number_scores, together
from cdka.train.data.objectives import Classification, Generation, NextToken, Regression
from cdka.train.data.splits import Ragged, TaskData, TextSplit
from cdka.train.heads import head_labels
from cdka.train.limits import positions_of
from cdka.train.load_model import ModelTokenizer, load_tokenizer

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

MAX_NEW_TOKENS = 512
"""Largest number of generated tokens where a task leaves the length of its answers open."""
ANSWER_QUANTILE, LENGTH_QUANTILE = 0.95, 0.99
"""Shares of the training data that the automatic limits let through whole."""
TEXT_LENGTH, MIN_BLOCKS = 512, 8
"""Texts without labels are packed to this length, or to less where they would make fewer blocks to train on."""


@dataclass
class _Overlong:
    """Numbers of examples that a length limit touched, split by split."""

    cut: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    without_answer: dict[str, int] = field(default_factory=dict)

    @property
    def of_training(self) -> int:
        """The training examples that are not whole, or not there."""
        return sum(counts.get("train", 0) for counts in (self.cut, self.dropped, self.without_answer))

    def notes(self, limit: int) -> tuple[str, ...]:
        found = []
        for split, number in self.cut.items():
            found.append(f"{number} {split} examples are longer than max_length={limit} tokens and were cut.")
        for split, number in self.dropped.items():
            found.append(f"{number} {split} examples are longer than max_length={limit} tokens and were left out.")
        for split, number in self.without_answer.items():
            found.append(
                f"{number} {split} examples were left out: their prompt alone fills max_length={limit} tokens, so no "
                "answer could be learned from them."
            )
        return tuple(found)


def instruction_data(task: InstructionRows, spec: RunSpec) -> TaskData:
    """The data of an instruction task for a generative model: a causal one or an encoder-decoder.

    Conversations take the model's own chat template, where it has one and the spec does not say otherwise. Raises
    CdkaError for a model that cannot generate text.
    """
    tokenizer = load_tokenizer(spec.model)
    if tokenizer.kind not in ("causal-lm", "seq2seq"):
        raise CdkaError(
            f"task {spec.task!r} needs a generative model (causal or encoder-decoder): got {spec.model!r}, "
            f"which is for {tokenizer.kind}. Choose another model, or a classification task."
        )
    conversations = all(row.messages for part in task.splits.values() for row in part)
    chat = spec.chat_template == "auto" and conversations and tokenizer.has_chat_template
    end_id = tokenizer.end_of_turn_id if chat else tokenizer.eos_id
    encoded = {name: _encoded(part, tokenizer, chat, end_id, spec.system_prompt) for name, part in task.splits.items()}
    limit, notes = _length_limit([len(s) + len(t) for s, t in encoded["train"]], tokenizer, spec)
    max_new_tokens, more = _answer_limit(task, [len(target) for _, target in encoded["train"]])
    overlong = _Overlong()
    splits = {
        name: _instruction_split(part, encoded[name], name, tokenizer, spec.with_(max_length=limit), overlong)
        for name, part in task.splits.items()
    }
    ends = tuple(dict.fromkeys((end_id, tokenizer.eos_id)))
    generation = Generation(max_new_tokens, ends, tokenizer.pad_id, tokenizer.decode, task.judge)
    objective = NextToken(1 if tokenizer.kind == "causal-lm" else 0, generation, task.scores)
    layout = ("Prompts are laid out by the model's own chat template.",) if chat else ()
    return TaskData(
        objective=objective,
        kind=tokenizer.kind,
        notes=(*task.notes, *layout, *notes, *more, *overlong.notes(limit)),
        max_length=limit,
        overlong=overlong.of_training,
        **splits,
    )


def _encoded(
    rows: Sequence[Instruction], tokenizer: ModelTokenizer, chat: bool, end_id: int, system_prompt: str
) -> list[tuple[list[int], list[int]]]:
    """(prompt, answer) of each row in tokens, before any cut."""
    if chat:
        first = [("system", system_prompt)] if system_prompt else []
        sources = tokenizer.encode_conversations(
            [[*first, *((one.role, one.content) for one in row.messages)] for row in rows]
        )
    else:
        before = f"{system_prompt}\n\n" if system_prompt else ""
        sources = tokenizer.encode_prompts([before + row.prompt for row in rows])
    return list(zip(sources, tokenizer.encode_answers([row.answer for row in rows], end_id), strict=True))


def _length_limit(lengths: Sequence[int], tokenizer: ModelTokenizer, spec: RunSpec) -> tuple[int, tuple[str, ...]]:
    """(``max_length`` in tokens, notes): the spec's, or what 99 of 100 training examples fit in."""
    if spec.max_length != AUTO:
        return spec.max_length, ()
    limit = max(1, int(np.ceil(np.quantile(lengths, LENGTH_QUANTILE)))) if len(lengths) else GUESSED_LENGTH
    positions = positions_of(tokenizer.name)
    limit = limit if positions is None else min(limit, positions.limit)
    fit = sum(length <= limit for length in lengths)
    return limit, (f"max_length is {limit} tokens: {fit:,} of {len(lengths):,} training examples fit.",)


def _answer_limit(task: InstructionRows, lengths: Sequence[int]) -> tuple[int, tuple[str, ...]]:
    """(tokens to generate at most, notes): the task's own limit, or what 95 of 100 training answers fit in."""
    if task.max_new_tokens is not None:
        return task.max_new_tokens, ()
    limit = min(max(1, int(np.ceil(np.quantile(lengths, ANSWER_QUANTILE)))), MAX_NEW_TOKENS)
    longest = max(lengths)
    if longest <= limit:
        return limit, ()
    return limit, (
        f"At most {limit} tokens are generated: {ANSWER_QUANTILE:.0%} of the training answers are no longer (the "
        f"longest has {longest}). Raise max_new_tokens to allow more.",
    )


def text_data(task: TextRows, spec: RunSpec) -> TaskData:
    """Texts end to end, an end token after each, cut into blocks of ``max_length`` tokens: every next token counts.

    Raises CdkaError for a model that does not continue text, and for texts too short to make a block.
    """
    tokenizer = load_tokenizer(spec.model)
    if tokenizer.kind != "causal-lm":
        raise CdkaError(
            f"task {spec.task!r} needs a causal language model: got {spec.model!r}, which is for {tokenizer.kind}. "
            "Choose another model."
        )
    streams = {
        name: [token for ids in tokenizer.encode_answers(list(texts)) for token in ids]
        for name, texts in task.splits.items()
    }
    limit, notes = spec.max_length, ()
    if limit == AUTO:
        positions = positions_of(spec.model)
        longest = TEXT_LENGTH if positions is None else min(TEXT_LENGTH, positions.limit)
        limit = max(2, min(longest, len(streams["train"]) // MIN_BLOCKS))
        notes = (f"texts are packed to {limit} tokens.",)
    splits = {name: _blocks(tokens, limit, name, tokenizer, spec) for name, tokens in streams.items()}
    return TaskData(objective=NextToken(1), kind="causal-lm", notes=(*task.notes, *notes), max_length=limit, **splits)


def _blocks(tokens: list[int], limit: int, split: str, tokenizer: ModelTokenizer, spec: RunSpec) -> TextSplit:
    blocks = [tokens[i : i + limit] for i in range(0, len(tokens), limit)]
    blocks = [block for block in blocks if len(block) >= 2]
    if not blocks:
        raise CdkaError(f"task {spec.task!r} leaves no {split} text of at least two tokens. Add text.")
    return TextSplit(
        kind="causal-lm",
        source=Ragged.of([block[:1] for block in blocks]),
        target=Ragged.of([block[1:] for block in blocks]),
        ids=np.arange(len(blocks)),
        pad_id=tokenizer.pad_id,
    )


def classification_data(task: LabelledRows, spec: RunSpec) -> TaskData:
    """The data of a text classification: a head on an encoder or decoder, or label names for an encoder-decoder."""
    tokenizer = load_tokenizer(spec.model)
    if tokenizer.kind == "image-classification":
        raise CdkaError(f"task {spec.task!r} is about text: got {spec.model!r}, an image model. Choose a text model.")
    if tokenizer.kind == "seq2seq":
        return _in_words(task, tokenizer, spec)
    limit, notes = _text_limit(task.splits["train"], tokenizer, spec)
    overlong, spec = _Overlong(), spec.with_(max_length=limit)
    head = head_labels(tokenizer.config, task.label_names)
    splits = {
        name: _classified(_renumbered(part, task.label_names, head.names), name, tokenizer, spec, overlong)
        for name, part in task.splits.items()
    }
    return TaskData(
        objective=Classification(together(task.scores, by_name(task.named_scores, head.names))),
        num_labels=len(head.names),
        kind="text-classification",
        notes=(*task.notes, *filter(None, [head.note]), *notes, *overlong.notes(limit)),
        label_names=head.names,
        max_length=limit,
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
    limit, notes = _text_limit(task.splits["train"], tokenizer, spec)
    overlong, spec = _Overlong(), spec.with_(max_length=limit)
    splits = {name: _classified(part, name, tokenizer, spec, overlong) for name, part in task.splits.items()}
    numbers = np.array([row.value for row in task.splits["train"]])
    mean, spread = float(numbers.mean()), float(numbers.std()) or 1.0
    return TaskData(
        objective=Regression(mean, spread, together(number_scores, task.scores)),
        num_labels=1,
        kind="text-classification",
        notes=(
            *task.notes,
            *notes,
            *overlong.notes(limit),
            f"the model learns (number - {mean:g}) / {spread:g}, the training numbers' mean and standard deviation.",
        ),
        max_length=limit,
        **splits,
    )


def _renumbered(rows: Sequence[Labelled], before: Sequence[str], after: Sequence[str]) -> list[Labelled]:
    numbers = [after.index(name) for name in before]
    return [replace(row, label=numbers[row.label]) for row in rows]


def _text_limit(
    rows: Sequence[Labelled | Measured], tokenizer: ModelTokenizer, spec: RunSpec
) -> tuple[int, tuple[str, ...]]:
    if spec.max_length != AUTO:
        return spec.max_length, ()
    pairs = [row.pair for row in rows] if any(row.pair is not None for row in rows) else None
    tokens, _, _ = tokenizer.encode_texts([row.text for row in rows], pairs, 1 << 20)
    return _length_limit(list(map(len, tokens)), tokenizer, spec)


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
    scores = together(task.scores, by_name(task.named_scores, names))
    rows = {split: [instruction(row) for row in part] for split, part in task.splits.items()}
    data = instruction_data(InstructionRows(rows, judge, longest, scores, task.notes), spec)
    return replace(data, label_names=names)


def _ids(rows: Sequence[Instruction | Labelled | Measured]) -> np.ndarray:
    return np.array([row.id for row in rows], dtype=np.int64)


def _instruction_split(
    rows: Sequence[Instruction],
    encoded: Sequence[tuple[list[int], list[int]]],
    split: str,
    tokenizer: ModelTokenizer,
    spec: RunSpec,
    overlong: _Overlong,
) -> TextSplit:
    limit = spec.max_length
    keep, sources, targets, cut, dropped, without_answer = [], [], [], 0, 0, 0
    for row, (source, target) in zip(rows, encoded, strict=True):
        if tokenizer.kind == "seq2seq":
            too_long = len(source) > limit or len(target) > limit
        else:
            too_long = len(source) + (len(target) if split == "train" else 0) > limit
        if too_long and split == "train" and spec.overlong == "drop":
            dropped += 1
            continue
        if tokenizer.kind == "seq2seq":
            source, target = source[:limit], target[:limit]
        elif split == "train":
            if len(source) >= limit:
                without_answer += 1
                continue
            target = target[: limit - len(source)]
        else:  # judged examples all stay: of a prompt that is too long, the end is kept
            source = source[-limit:]
        cut += too_long
        keep.append(row)
        sources.append(source)
        targets.append(target)
    for counts, number in ((overlong.cut, cut), (overlong.dropped, dropped), (overlong.without_answer, without_answer)):
        if number:
            counts[split] = number
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
    rows: Sequence[Labelled | Measured], split: str, tokenizer: ModelTokenizer, spec: RunSpec, overlong: _Overlong
) -> TextSplit:
    pairs = [row.pair for row in rows] if any(row.pair is not None for row in rows) else None
    tokens, segments, shortened = tokenizer.encode_texts([row.text for row in rows], pairs, spec.max_length)
    if shortened:
        overlong.cut[split] = shortened
    return TextSplit(
        kind="text-classification",
        source=Ragged.of(tokens),
        ids=_ids(rows),
        pad_id=tokenizer.pad_id,
        classes=torch.tensor([row.label if isinstance(row, Labelled) else row.value for row in rows]),
        segments=None if segments is None else Ragged.of(segments),
    )
