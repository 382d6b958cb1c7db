"""Looks at the validation split while a pack trains: the curves, the best adapter so far, and the patience."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from cdka.runs import events
from cdka.train.checkpoint import save_adapter
from cdka.train.evaluate import Evaluating, Evaluation, evaluate
from cdka.train.member import Member
from cdka.train.pack import PHASES, Events, Pack, watched

Judging = Generator[tuple[int, events.Event], None, list[dict[str, float]] | None]
MAX_BEST_PARAMS = 100_000_000
"""A full model larger than this is not saved again at every better look: that would take longer than training."""


def judge_all(pack: Pack) -> Events:
    """Judge every member at work on the validation split; an event each, and its adapter kept if it is the best."""
    before = pack.clock.judging_s
    for group in pack.schedule.groups(pack.at_work):
        results = yield from watched(pack, group, judge_validation(pack, group), keep_ends=True)
        if results is None:
            continue
        for member, result in zip(group, results, strict=True):
            if member in pack.members:
                yield from note(pack, member, result)
    pack.look_s = pack.clock.judging_s - before
    pack.clock.enter("train")


def note(pack: Pack, member: Member, result: Evaluation) -> Events:
    """Remember a result of the validation split, tell it, and keep the adapter where it is the best so far."""
    member.remember(result)
    yield (
        member.index,
        events.Evaluated(
            step=member.step, metrics=result.metrics("eval"), examples=result.examples, **read_so_far(pack, member)
        ),
    )
    if member.improved and keeps_best(member):
        save_adapter(pack.model, member, member.directory / "adapter-best")
    patience = member.spec.patience
    member.out_of_patience = bool(patience) and member.looks_since_best >= patience


def keeps_best(member: Member) -> bool:
    """True where the adapter of the best look is kept: after the first step, unless it is too large a model."""
    too_large = member.spec.method == "full" and sum(p.numel() for p in member.parameters.values()) > MAX_BEST_PARAMS
    return member.step > 0 and not too_large


def judge_validation(pack: Pack, group: Sequence[Member]) -> Evaluating:
    """The evaluation of each member of the group on the validation split, with its progress."""
    results = yield from evaluate(
        pack.model, group, pack.data.validation, pack.data.objective, pack.device, pack.answer_rows
    )
    pack.judged_losses += len(group) * len(pack.data.validation)
    pack.judged_answers += len(group) * len(pack.answer_rows)
    return results


def read_so_far(pack: Pack, member: Member) -> dict[str, Any]:
    """The training data that a run has read, in samples and, where it is text, in tokens; and the time it took."""
    samples = member.step * member.spec.batch_size
    return {"samples": samples, "tokens": member.tokens, "elapsed_s": pack.elapsed_s}


def judge_before(pack: Pack) -> Events:
    """Judge what is to be retained before the first step; a run that resumes knows it from its checkpoint."""
    if pack.retained is None or pack.first_step:
        return
    yield from pack.for_all(events.Phase(phase=PHASES["evaluate"]))
    members = list(pack.members)
    results = yield from judge_retained(pack, members)
    for member, result in zip(members, results or (), strict=False):
        member.retained_before = {f"retained/before_{name}": value for name, value in result.items()}


def judge_retained(pack: Pack, members: Sequence[Member]) -> Judging:
    """Accuracy and loss of each member on what is to be retained (empty where nothing is); None if all are cancelled.

    Text is judged on its next tokens, no answers are generated.
    """
    if pack.retained is None:
        return [{} for _ in members]
    objective = pack.retained.data.objective
    if objective.generation is not None:
        objective = replace(objective, generation=None)
    results = yield from watched(
        pack, members, evaluate(pack.model, members, pack.retained.data.test, objective, pack.device)
    )
    if results is None:
        return None
    return [{"accuracy": r.accuracy, "loss": r.loss, "examples": r.examples} for r in results]
