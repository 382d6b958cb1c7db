"""The training loop: a pack of K >= 1 runs over one base, as a generator of events.

The loop is hand-written because it trains several adapters at once and must not wait for the device: the loss of a
step is read when the next step is already under way. An event is a JSON-able dict with a ``kind``; the loop neither
prints nor stores anything but the adapters and checkpoints in the runs' own directories.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cdka.errors import CdkaError
from cdka.models.hub import download_model
from cdka.runs.resolve import ResolvedRun
from cdka.runs.spec import QUANTIZED, SHARED, RunSpec
from cdka.runs.versions import versions
from cdka.train import distributed
from cdka.train.checkpoint import Checkpoints, DamagedCheckpoint, resume, save_adapter
from cdka.train.data.load import fetch_task, load_task
from cdka.train.data.task_data import TaskData
from cdka.train.device import peak_memory_bytes, resolve_device, resolve_dtype
from cdka.train.evaluate import Evaluation, evaluate
from cdka.train.forward import forward, routing
from cdka.train.gradient_init import start_from_gradient
from cdka.train.limits import notes_on_targets
from cdka.train.load_model import load_model
from cdka.train.member import Member
from cdka.train.methods import adapter_name, attach, trainable
from cdka.train.pack_schedule import PackSchedule
from cdka.train.processes import lead

Event = dict[str, Any]
Control = Callable[[int], str | None]


@dataclass
class _Pack:
    """The model, the data and the members that are still training."""

    model: torch.nn.Module
    data: TaskData
    device: torch.device
    members: list[Member]
    control: Control
    schedule: PackSchedule
    started: float = field(default_factory=time.monotonic)
    pending: list[tuple[Member, Event, torch.Tensor, torch.Tensor]] = field(default_factory=list)

    @property
    def elapsed_s(self) -> float:
        return round(time.monotonic() - self.started, 4)


def train(
    runs: Sequence[ResolvedRun], directories: Sequence[Path], control: Control | None = None
) -> Iterator[tuple[int, Event]]:
    """Fine-tune a pack; yields (index of the run, event) from loading to the final metrics.

    ``control(index)`` is asked between steps: None goes on, ``"keep"`` evaluates and saves what there is,
    ``"cancel"`` drops the run. A run whose loss is no longer finite fails alone. Raises CdkaError for runs that do
    not fit their model, their data, or each other; torch's out-of-memory error passes through.
    """
    _check_shared([run.spec for run in runs])
    if runs[0].spec.num_processes > distributed.size():
        yield from lead(train, runs, directories, control)
        return
    pack = yield from _prepare(runs, directories, control or (lambda index: None))
    yield from _train_steps(pack)
    for member in list(pack.members):
        yield from _finish(pack, member)


def _check_shared(specs: Sequence[RunSpec]) -> None:
    for name in SHARED:
        values = [getattr(spec, name) for spec in specs]
        if any(value != values[0] for value in values):
            raise CdkaError(f"runs of one pack must agree in {name}: got {values}. Run them separately.")


def _for_all(members_or_count: Sequence[Member] | int, event: Event) -> Iterator[tuple[int, Event]]:
    indices = (
        range(members_or_count) if isinstance(members_or_count, int) else [member.index for member in members_or_count]
    )
    for index in indices:
        yield index, dict(event)


def _prepare(runs: Sequence[ResolvedRun], directories: Sequence[Path], control: Control) -> Iterator[tuple[int, Event]]:
    specs, task = [run.spec for run in runs], runs[0].task
    spec = specs[0]
    yield from _for_all(len(specs), {"kind": "phase", "phase": "loading"})
    device = resolve_device(spec.device)
    dtype = resolve_dtype(spec.dtype, device)
    if spec.method == "full" and spec.dtype == "auto":
        dtype = torch.float32  # half-precision master weights lose small updates; autocast computes in bfloat16
    for progress in download_model(spec.model):
        yield from _for_all(len(specs), {"kind": "phase", **progress})
    for progress in fetch_task(task, spec):
        yield from _for_all(len(specs), {"kind": "phase", **progress})
    data = load_task(task, spec)
    quantization = spec.dtype if spec.dtype in QUANTIZED else None
    loaded = load_model(
        spec.model,
        data.kind or task.kind,
        dtype=dtype,
        num_labels=data.num_labels,
        label_names=data.label_names,
        quantization=quantization,
        device=device,
    )
    base_params = sum(p.numel() for p in loaded.model.parameters())
    model = attach(loaded, specs)
    model = model if quantization else model.to(device)  # bitsandbytes has put its layers there already
    if spec.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    yield from _for_all(len(specs), {"kind": "phase", "phase": "preparing data"})
    for note in (*data.notes, *notes_on_targets(loaded.model, spec)):
        yield from _for_all(len(specs), {"kind": "note", "text": note})
    members = []
    for index, (one, directory) in enumerate(zip(specs, directories, strict=True)):
        name = adapter_name(index, len(specs))
        member = Member.start(index, one, Path(directory), name, trainable(model, one, name), data.train)
        members.append(member)
        yield (
            index,
            {
                "kind": "start",
                "total_steps": one.steps,
                "base_params": base_params,
                "device": str(device),
                "dtype": quantization or str(dtype).removeprefix("torch."),
                "pack_size": len(specs),
                "versions": versions(),
                "num_params": sum(p.numel() for p in member.parameters.values()),
                "label_names": list(data.label_names),
            },
        )
        resumed = False
        try:
            resumed = resume(member, member.directory / "checkpoint")
        except DamagedCheckpoint as damage:
            text = f"the checkpoint cannot be read ({damage}): training starts anew."
            yield index, {"kind": "note", "text": text}
        if resumed:
            yield index, {"kind": "resumed", "step": member.step}
        elif one.init_weights == "gradient":
            note = start_from_gradient(model, member, data.train, data.objective, device)
            yield index, {"kind": "note", "text": note}
    if len(members) > 1:  # equal components side by side share their matrix products
        members.sort(key=lambda member: (member.spec.components, member.index))
    if len({member.step for member in members}) > 1:
        raise CdkaError("the checkpoints of this pack stand at different steps. Retry its runs separately.")
    model.train()  # pre-trained models come in evaluation mode: without dropout, and deaf to gradient checkpointing
    return _Pack(model, data, device, members, control, PackSchedule(len(members), device))


def _train_steps(pack: _Pack) -> Iterator[tuple[int, Event]]:
    spec = pack.members[0].spec
    yield from _for_all(pack.members, {"kind": "phase", "phase": "training"})
    if pack.members[0].step == 0:
        yield from _evaluate_all(pack)
    checkpoints = Checkpoints(spec)
    for step in range(pack.members[0].step, spec.steps):
        yield from _obey(pack)
        if not pack.members or all(member.stopped for member in pack.members):
            break
        undecided = not pack.schedule.decided
        yield from _read(pack, _one_step(pack))
        if undecided and pack.schedule.decided:
            yield from _for_all(pack.members, _packing_event(pack))
        due = (step + 1) % spec.eval_every == 0 or step + 1 == spec.steps
        checkpoint = checkpoints.due(step + 1, evaluated=due)
        if due or checkpoint:
            yield from _read(pack, [])
        if due and pack.members:
            yield from _evaluate_all(pack)
        if checkpoint:
            checkpoints.save(pack.members)
    yield from _read(pack, [])


def _obey(pack: _Pack) -> Iterator[tuple[int, Event]]:
    """Ask the control about each member; a cancelled one leaves, a kept one is finished at once."""
    for member in list(pack.members):
        wish = distributed.broadcast(pack.control(member.index))
        if wish == "cancel":
            pack.members.remove(member)
            yield member.index, {"kind": "cancelled"}
        elif wish == "keep":
            yield from _read(pack, [])
            if member in pack.members:
                member.stopped = True
                yield from _finish(pack, member)


def _one_step(pack: _Pack) -> list[tuple[Member, Event, torch.Tensor, torch.Tensor]]:
    """One update of every member; returns the tensors to read later, without waiting for the device."""
    members, objective, spec = pack.members, pack.data.objective, pack.members[0].spec
    batches = [pack.data.train.take(next(member.order)) for member in members]
    counts = [max(1, objective.count(batch.labels)) for batch in batches]
    losses = [torch.zeros((), device=pack.device) for _ in members]
    with pack.schedule.step():
        for rows in torch.arange(spec.batch_size).chunk(spec.gradient_accumulation):
            for group in pack.schedule.groups(range(len(members))):
                some = [members[i] for i in group]
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
        event = {
            "kind": "step",
            "step": member.step,
            "lr": member.optimizer.param_groups[0]["lr"],
            **_read_so_far(member),
            "elapsed_s": pack.elapsed_s,
        }
        started.append((member, event, loss, norm))
    return started


def _read(pack: _Pack, started: list) -> Iterator[tuple[int, Event]]:
    """Emit the steps read late, hold back those just started; a run whose loss or gradient is not finite fails here."""
    ready, pack.pending = pack.pending, started
    for member, event, loss, norm in ready:
        if member not in pack.members:
            continue
        value, grad_norm = loss.item(), norm.item()
        # Clipping by an infinite norm would set the gradient to zero: training would stand still unnoticed.
        if math.isfinite(value) and math.isfinite(grad_norm):
            member.last_train_loss = value
            yield member.index, {**event, "loss": value, "grad_norm": grad_norm}
        else:
            pack.members.remove(member)
            yield from _diverged(pack, member, event["step"])


def _diverged(pack: _Pack, member: Member, step: int) -> Iterator[tuple[int, Event]]:
    kept = ""
    if member.last_good:
        member.fall_back()
        save_adapter(pack.model, member, member.directory / "adapter-last-good")
        kept = f" The adapter of the last evaluation (step {member.last_good_step}) is kept in adapter-last-good."
    rule = "" if member.spec.scaling_rule == "sqrt_r_r2" else ", or use the stabilised scaling (scaling_rule sqrt_r_r2)"
    cause = (
        f"the loss or its gradient was no longer finite at step {step}. Lower lr (now {member.spec.lr:g}) "
        f"or alpha (now {member.spec.alpha:g}){rule}.{kept}"
    )
    yield member.index, {"kind": "failed", "cause": cause, "step": step}


def _evaluate_all(pack: _Pack) -> Iterator[tuple[int, Event]]:
    members = [member for member in pack.members if not member.stopped]
    for group in pack.schedule.groups(members):
        results = evaluate(pack.model, group, pack.data.validation, pack.data.objective, pack.device)
        for member, result in zip(group, results, strict=True):
            member.remember(result)
            yield member.index, _evaluation_event(pack, member, result)


def _packing_event(pack: _Pack) -> Event:
    """What the trial of the first steps showed, in seconds per update of all runs."""
    schedule = pack.schedule
    return {
        "kind": "packing",
        "size": len(pack.members),
        "together": schedule.together,
        "share": schedule.share,
        "packed_s": schedule.packed_s,
        "separate_s": schedule.separate_s,
    }


def _evaluation_event(pack: _Pack, member: Member, result: Evaluation) -> Event:
    return {
        "kind": "eval",
        "split": "validation",
        "step": member.step,
        "accuracy": result.accuracy,
        "loss": result.loss,
        "examples": result.examples,
        **_read_so_far(member),
        "elapsed_s": pack.elapsed_s,
    }


def _read_so_far(member: Member) -> Event:
    """How much of the training data a run has read: samples, and tokens where it is text."""
    read = {"samples": member.step * member.spec.batch_size}
    return read if member.tokens is None else read | {"tokens": member.tokens}


def _finish(pack: _Pack, member: Member) -> Iterator[tuple[int, Event]]:
    """Judge, save and report one run: the only place that reads the test split."""
    training_s = pack.elapsed_s
    yield member.index, {"kind": "phase", "phase": "evaluating"}
    objective = pack.data.objective
    if member.last_evaluation is None or member.last_good_step != member.step:
        (result,) = evaluate(pack.model, [member], pack.data.validation, objective, pack.device)
        member.remember(result)
        yield member.index, _evaluation_event(pack, member, result)
    validation = member.last_evaluation
    (test,) = evaluate(pack.model, [member], pack.data.test, objective, pack.device)
    yield member.index, {"kind": "phase", "phase": "saving"}
    save_adapter(pack.model, member, member.directory / "adapter")
    yield member.index, {"kind": "memory", "peak_bytes": peak_memory_bytes(pack.device)}
    yield member.index, {"kind": "saved", "directory": str(member.directory / "adapter")}
    pack.members.remove(member)
    yield (
        member.index,
        {
            "kind": "final",
            "stopped": member.stopped,
            "metrics": {
                "accuracy": test.accuracy,
                "test_loss": test.loss,
                "test_examples": test.examples,
                "validation_accuracy": validation.accuracy,
                "validation_loss": validation.loss,
                "validation_examples": validation.examples,
                "best_validation_accuracy": None if validation.accuracy is None else member.best_quality,
                "best_step": member.best_step,
                "train_loss": member.last_train_loss,
                "steps_done": member.step,
                "unparsed": test.unparsed,
                "training_s": training_s,
                **test.scores,
            },
            "predictions": {
                "split": "test",
                "example": pack.data.test.ids.tolist(),
                "label": test.answers.label,
                "predicted": test.answers.predicted,
            },
        },
    )
