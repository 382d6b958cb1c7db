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
    before, shown, judged = pack.clock.judging_s, 0, 0
    for group in map(list, pack.schedule.groups(pack.at_work)):
        results = None
        while group and results is None:
            some = untouched(group)
            results = yield from watched(pack, some, judge_validation(pack, some), keep_ends=True)
            if results is None:  # those that were judged have left: the others have waited for their result
                group = [one for one in group if one not in some and one in pack.members]
        for position, member in enumerate(group):
            if member in pack.members:
                yield from note(pack, member, results[min(position, len(results) - 1)])
        shown, judged = shown + len(group), judged + len(results or ())
    pack.look_s = (pack.clock.judging_s - before) * (shown / judged if judged else 1.0)
    pack.clock.enter("train")


def untouched(group: Sequence[Member]) -> Sequence[Member]:
    """The first of the group where all its adapters still add nothing to the base: one result is that of all."""
    alike = all(member.step == 0 and member.spec.init_weights == "kaiming" for member in group)
    return group[:1] if alike else group


def note(pack: Pack, member: Member, result: Evaluation) -> Events:
    """Store and report a result of the validation split, and keep the adapter where it is the best so far."""
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
    results = yield from judge_retained(pack, untouched(members))
    for position, member in enumerate(members if results else ()):
        result = results[min(position, len(results) - 1)]
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
