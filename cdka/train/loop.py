"""The training loop: a pack of K >= 1 runs over one base, as a generator of events.

The loop is hand-written because it trains several adapters at once and must not wait for the device: the loss of a
step is read when the next step is already under way. Its events are those of ``cdka.runs.events``; the loop neither
prints nor stores anything but the adapters and checkpoints in the runs' own directories.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cdka.errors import CdkaError
from cdka.runs import events
from cdka.runs.events import Event
from cdka.runs.resolve import ResolvedRun, resolve_run
from cdka.runs.spec import SHARED, RunSpec
from cdka.train import distributed
from cdka.train.checkpoint import Checkpoints, save_adapter
from cdka.train.distributed import lead, process_group
from cdka.train.evaluate import Progress
from cdka.train.finish import finish
from cdka.train.forward import forward, routing
from cdka.train.member import Member
from cdka.train.pack import PHASES, Control, Events, Pack
from cdka.train.prepare import prepare
from cdka.train.trackers import tracked
from cdka.train.validation import judge_all, judge_before, read_so_far


def train(
    runs: Sequence[ResolvedRun],
    directories: Sequence[Path],
    control: Control | None = None,
    shared: Path | None = None,
) -> Iterator[tuple[int, Event]]:
    """Fine-tune a pack; yields (index of the run, event) from loading to the final metrics.

    ``control(index)`` is asked between steps, and between the batches and tokens of everything that is judged: None
    goes on, ``"keep"`` saves and judges what there is, ``"cancel"`` drops the run. ``shared`` is a folder where runs
    that are compared find which examples they are judged on. A run whose loss is no longer finite fails alone. Raises
    CdkaError for runs that do not fit their model, their data, or each other; torch's out-of-memory error passes
    through.
    """
    specs = [run.spec for run in runs]
    if specs[0].num_processes > distributed.size():
        return lead(train, runs, directories, control, shared)
    _check_shared(specs)
    return tracked(_train(runs, directories, control or (lambda index: None), shared), specs, directories)


def _train(runs: Sequence[ResolvedRun], directories: Sequence[Path], control: Control, shared: Path | None) -> Events:
    pack = yield from prepare(runs, directories, control, shared)
    if pack is None:
        return
    spec, checkpoints = runs[0].spec, Checkpoints(runs[0].spec)
    yield from judge_before(pack)
    yield from pack.for_all(events.Phase(phase=PHASES["train"]))
    if pack.first_step == 0:
        yield from judge_all(pack)
    pack.clock.enter("train")
    for step in range(pack.first_step, spec.steps):
        yield from pack.hear_requests()
        yield from _finish_those_that_stop(pack)
        if not pack.members:
            return
        yield from _read_losses(pack, _start_step(pack))
        yield from _packing_note(pack)
        done = step + 1
        looks = done % spec.eval_every == 0 or done == spec.steps
        saves = checkpoints.due(done, evaluated=looks)
        if looks or saves:
            yield from _read_losses(pack, [])
        if looks and pack.members:
            yield from judge_all(pack)
        if saves:
            checkpoints.save(pack.members)
        yield from pack.show(Progress("train", done, spec.steps, "steps", pack.steps_per_s))
    yield from _read_losses(pack, [])
    for member in list(pack.members):
        yield from finish(pack, member)


def _check_shared(specs: Sequence[RunSpec]) -> None:
    for name in SHARED:
        values = [getattr(spec, name) for spec in specs]
        if any(value != values[0] for value in values):
            raise CdkaError(f"runs of one pack must agree in {name}: got {values}. Run them separately.")
    alone = [spec.label for spec in specs if spec.method != "cdka"]
    if len(specs) > 1 and alone:
        raise CdkaError(f"only cdka runs share a pack: got {alone[0]}. Run them separately.")


def _finish_those_that_stop(pack: Pack) -> Events:
    """Finish the members that are to be kept as they are, and those that have run out of patience."""
    for member in list(pack.members):
        if member.keep_requested or member.out_of_patience:
            yield from _read_losses(pack, [])
            if member in pack.members:
                yield from finish(pack, member)
                pack.clock.enter("train")


def _start_step(pack: Pack) -> list[tuple[Member, events.Step, torch.Tensor, torch.Tensor]]:
    """One update of every member; returns the tensors to read later, without waiting for the device."""
    members, objective, spec = pack.members, pack.data.objective, pack.members[0].spec
    batches = [pack.data.train.take(next(member.order)) for member in members]
    counts = [max(1, objective.count(batch.labels)) for batch in batches]
    losses = [torch.zeros((), device=pack.device) for _ in members]
    with pack.schedule.step():
        for group in pack.schedule.groups(range(len(members))):
            some = [members[i] for i in group]
            for rows in pack.parts([batches[i] for i in group], spec):
                with routing(pack.model, some):  # checkpointed layers run again in the backward pass
                    micro = [batches[i].take(distributed.shard(rows)) for i in group]
                    outputs = forward(pack.model, some, micro, pack.device, objective)
                    parts = [output.loss / counts[i] for i, output in zip(group, outputs, strict=True)]
                    torch.stack(parts).sum().backward()
                for i, part in zip(group, parts, strict=True):
                    losses[i] = losses[i] + part.detach()
        distributed.all_reduce(losses)
        norms = [member.update() for member in members]
    started = []
    for member, batch, loss, norm in zip(members, batches, losses, norms, strict=True):
        if batch.num_tokens is not None:
            member.tokens = (member.tokens or 0) + batch.num_tokens
        lr = member.optimizer.param_groups[0]["lr"]
        event = events.Step(step=member.step, loss=None, lr=lr, **read_so_far(pack, member))
        started.append((member, event, loss, norm))
    return started


def _read_losses(pack: Pack, started: list) -> Events:
    """Emit the steps read late, hold back those just started; a run whose loss or gradient is not finite fails here."""
    ready, pack.pending = pack.pending, started
    for member, event, loss, norm in ready:
        if member not in pack.members:
            continue
        value, grad_norm = loss.item(), norm.item()
        # Clipping by an infinite norm would set the gradient to zero: training would stand still unnoticed.
        if math.isfinite(value) and math.isfinite(grad_norm):
            member.last_train_loss = value
            yield member.index, replace(event, loss=value, grad_norm=grad_norm)
        else:
            pack.members.remove(member)
            yield from _diverged(pack, member, event.step)


def _diverged(pack: Pack, member: Member, step: int) -> Events:
    kept = ""
    if member.last_good:
        member.put_back(member.last_good)
        save_adapter(pack.model, member, member.directory / "adapter-last-good")
        kept = f" The adapter of the last evaluation (step {member.last_good_step}) is kept in adapter-last-good."
    rule = "" if member.spec.scaling_rule == "sqrt_r_r2" else ", or use the stabilised scaling (scaling_rule sqrt_r_r2)"
    cause = (
        f"the loss or its gradient was no longer finite at step {step}. Lower lr (now {member.spec.lr:g}) "
        f"or alpha (now {member.spec.alpha:g}){rule}.{kept}"
    )
    yield member.index, events.Failed(cause=cause, step=step)


def _packing_note(pack: Pack) -> Events:
    """The result of the trial of the first steps, once, when it has been decided."""
    schedule = pack.schedule
    if not schedule.decided or schedule.reported or not schedule.tried:
        return
    schedule.reported = True
    yield from pack.for_all(
        events.Packing(
            size=len(pack.members),
            share=schedule.share,
            together=schedule.together,
            packed_s=schedule.packed_s,
            separate_s=schedule.separate_s,
        )
    )


def follow(directory: str, spec: dict[str, Any]) -> None:
    """Follow the leading process through its run, in a child process with the environment of its rank."""
    run = resolve_run(RunSpec.from_dict(spec))
    environment = {
        name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")
    }
    with process_group({**environment, "ACCELERATE_USE_CPU": os.environ.get("ACCELERATE_USE_CPU", "false")}):
        for _ in train([run], [Path(directory)]):
            pass
