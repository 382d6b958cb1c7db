"""From the specs of a pack to everything that its training needs: data, model, adapters, members, and the judging."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from cdka.adapter.gradient import initialised_elsewhere
from cdka.cost.measurement import costs_known
from cdka.cost.memory import HALF_PARAMS, LARGE_PARAMS, pass_tokens
from cdka.errors import CdkaError
from cdka.machine import versions
from cdka.models.locate import download_model
from cdka.runs import events
from cdka.runs.resolve import ResolvedRun
from cdka.runs.spec import AUTO, QUANTIZED, RunSpec
from cdka.tasks.info import TaskInfo
from cdka.train import distributed, judging
from cdka.train.checkpoint import DamagedCheckpoint, resume
from cdka.train.data.load import fetch_task, load_task
from cdka.train.data.splits import TaskData
from cdka.train.device import resolve_device, resolve_dtype, return_freed_memory
from cdka.train.gradients import start_from_gradient
from cdka.train.limits import notes_on_targets
from cdka.train.load_model import load_model
from cdka.train.member import Member
from cdka.train.methods import adapter_name, attach, trainable
from cdka.train.pack import PHASES, Control, Pack, PhaseClock
from cdka.train.pack_schedule import PackSchedule
from cdka.train.retained import load_retained

Preparing = Generator[tuple[int, events.Event], None, Pack | None]


def prepare(
    runs: Sequence[ResolvedRun], directories: Sequence[Path], control: Control, shared: Path | None
) -> Preparing:
    """The pack before its first step, or resumed from its checkpoints; yields events meanwhile.

    None where every run was cancelled. Raises CdkaError for runs that do not fit their model, data, or each other.
    """
    specs, task, every = [run.spec for run in runs], runs[0].task, range(len(runs))
    spec = specs[0]
    clock = PhaseClock()
    yield from ((index, events.Phase(phase=PHASES["load"])) for index in every)
    for progress in _downloads(task, spec):
        yield from ((index, events.Phase(**progress)) for index in every)
    device = resolve_device(spec.device)
    dtype = resolve_dtype(spec.dtype, device, runs[0].shapes.base_params)
    large = device.type == "cpu" and runs[0].shapes.base_params >= HALF_PARAMS
    if large:
        return_freed_memory()
    if spec.method == "full" and spec.dtype == "auto":
        dtype = torch.float32  # half-precision master weights lose small updates; autocast computes in bfloat16
    clock.enter("prepare")
    yield from ((index, events.Phase(phase=PHASES["prepare"])) for index in every)
    data = load_task(task, spec)
    if large:
        data = data.in_few_widths()
    clock.enter("load")
    yield from ((index, events.Phase(phase=PHASES["load"])) for index in every)
    kind = data.kind or task.kind
    quantization = spec.dtype if spec.dtype in QUANTIZED else None
    loaded = load_model(
        spec.model,
        kind,
        dtype=dtype,
        num_labels=data.num_labels,
        label_names=data.label_names,
        quantization=quantization,
        device=device,
    )
    retained = load_retained(spec, loaded, kind)
    base_params = sum(p.numel() for p in loaded.model.parameters())
    model = _on_device(attach(loaded, specs), spec, device)
    clock.enter("prepare")
    for note in (*data.notes, *notes_on_targets(loaded.model, spec)):
        yield from ((index, events.Note(text=note)) for index in every)
    limit = pass_limit(runs[0], device)
    members = []
    for index, (one, directory) in enumerate(zip(specs, directories, strict=True)):
        name = adapter_name(index, len(specs))
        member = Member.start(index, one, Path(directory), name, trainable(model, one, name), data.train)
        members.append(member)
        start = events.Start(
            num_params=sum(p.numel() for p in member.parameters.values()),
            total_steps=one.steps,
            base_params=base_params,
            device=str(device),
            dtype=quantization or str(dtype).removeprefix("torch."),
            pack_size=len(specs),
            max_length=data.max_length,
            label_names=data.label_names,
            train_examples=len(data.train),
            overlong=data.overlong,
            versions=versions(),
        )
        yield index, start
        resumed = False
        try:
            resumed = resume(member, member.directory / "checkpoint")
        except DamagedCheckpoint as damage:
            yield index, events.Note(text=f"the checkpoint cannot be read ({damage}): training starts anew.")
        if resumed:
            initialised_elsewhere(model, name)
            yield index, events.Resumed(step=member.step)
        elif one.init_weights == "gradient":
            note = start_from_gradient(model, member, data.train, data.objective, device)
            yield index, events.Note(text=note)
    if len(members) > 1:  # equal components side by side share their matrix products
        members.sort(key=lambda member: (member.spec.components, member.index))
    if len({member.step for member in members}) > 1:
        raise CdkaError("the checkpoints of this pack stand at different steps. Retry its runs separately.")
    if device.type == "cpu" and base_params >= LARGE_PARAMS and torch.get_num_threads() > 1:
        judging.settle_threads(model, members[0], data, device)
    if AUTO in (spec.eval_examples, spec.generate_examples, spec.test_examples):
        yield from ((index, events.Phase(phase=PHASES["measure"])) for index in every)
    decided = yield from _decide(model, members, data, device, control, shared, limit)
    if decided is None:
        return None
    if decided.costs is None and shared is not None:  # counts that were given: the time left still needs their costs
        decided = replace(decided, costs=costs_known(runs[0], shared.parents[1], torch.get_num_threads()))
    yield from _judging_events(decided, every)
    data, answer_rows = judging.apply(decided, data)
    model.train()  # pre-trained models come in evaluation mode: without dropout, and without gradient checkpointing
    schedule = PackSchedule(len(members), device)
    pack = Pack(model, data, device, members, control, schedule, clock, decided, answer_rows, retained)
    pack.first_step, pack.pass_tokens, pack.returns_memory = members[0].step, limit, large
    return pack


def pass_limit(run: ResolvedRun, device: torch.device) -> int | None:
    """The tokens of text, or the pictures, that may go through the model at a time; None where there is no limit."""
    tokens = pass_tokens(run, device.type)
    per_picture = dict(run.shapes.details).get("num_image_tokens") if run.task.kind.startswith("image-c") else None
    return tokens if tokens is None or per_picture is None else max(1, tokens // per_picture)


def _downloads(task: TaskInfo, spec: RunSpec) -> Generator[dict, None, None]:
    yield from download_model(spec.model)
    yield from fetch_task(task, spec)


def _on_device(model: torch.nn.Module, spec: RunSpec, device: torch.device) -> torch.nn.Module:
    if spec.dtype not in QUANTIZED:  # bitsandbytes has put its layers there already
        model = model.to(device)
    if spec.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _decide(
    model: torch.nn.Module,
    members: list[Member],
    data: TaskData,
    device: torch.device,
    control: Control,
    shared: Path | None,
    limit: int | None,
) -> Generator[tuple[int, events.Event], None, judging.Judging | None]:
    """The examples to judge; its measurements are shown and can be cancelled. None where every run was."""
    deciding = judging.decide(
        members[0].spec, data, lambda: judging.measure(model, members[0], data, device, len(members), limit), shared
    )
    while True:
        try:
            progress = next(deciding)
        except StopIteration as end:
            return end.value
        for member in members:
            yield (
                member.index,
                events.Progress(phase=PHASES["measure"], done=progress.done, of=progress.of, unit=progress.unit),
            )
        if distributed.size() == 1 and all(control(member.index) == "cancel" for member in members):
            deciding.close()
            for member in members:
                yield member.index, events.Cancelled()
            return None


def _judging_events(decided: judging.Judging, every: Sequence[int]) -> Generator[tuple[int, events.Event], None, None]:
    sizes = {key: value for key, value in vars(decided).items() if key != "costs"}
    costs = None if decided.costs is None else asdict(decided.costs)
    for index in every:
        yield index, events.Judged(**sizes, costs=costs)
        for note in decided.notes:
            yield index, events.Note(text=note)
