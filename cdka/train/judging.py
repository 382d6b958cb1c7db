"""Subsets of examples that the runs of a pack are judged on, fixed before the first evaluation and stored (ours).

A subset is the beginning of one fixed permutation of its split, so a smaller one lies inside a larger one. ``auto``
keeps judging under a quarter of the training time, as the first batches of this machine measure both; the runs of a
sweep read the decision of the first of them, so that all are judged on the same examples.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from cdka.cost.judging import Costs, Judging, affordable
from cdka.runs.spec import ALL, AUTO, RunSpec
from cdka.train import distributed
from cdka.train.data.splits import NO_PADDING, AnySplit, TaskData
from cdka.train.evaluate import Progress, evaluate
from cdka.train.forward import forward, lengths_of, routing, split_rows
from cdka.train.generate import decode, rows_that_fit
from cdka.train.member import Member, batch_order

SEED = 2602
"""Draws the subsets, the same for every run, whatever its own seed."""
PROBE_TOKENS, PROBE_ROWS, MANY_ROWS, QUICK_S = 8, 8, 64, 0.3
WARM_S, SAMPLED_BATCHES, THREAD_TRIALS = 1.0, 32, 1
PROBE_S = 4.0
"""An update and an evaluation are timed on as many examples as take about so long, and counted up."""


def subset(total: int, size: int) -> torch.Tensor:
    """(size,) ascending row numbers: the first ``size`` of a fixed permutation of ``total``; all of them in order."""
    if size >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(SEED))[:size].sort().values


def apply(judging: Judging, data: TaskData) -> tuple[TaskData, torch.Tensor]:
    """(the data with the splits cut to what is judged, places in the validation split that get a generated answer)."""
    rows = subset(len(data.validation), judging.eval)
    answered = torch.isin(rows, subset(len(data.validation), judging.generate)).nonzero()[:, 0]
    chosen = {
        name: split if size >= len(split) else split.select(subset(len(split), size))
        for name, split, size in (
            ("validation", data.validation, judging.eval),
            ("test", data.test, judging.test),
        )
    }
    return replace(data, **chosen), answered


Measuring = Generator[Progress, None, Costs]
Deciding = Generator[Progress, None, Judging]


def decide(spec: RunSpec, data: TaskData, measure: Callable[[], Measuring], shared: Path | None = None) -> Deciding:
    """The judging of a run on ``data``; yields the progress of ``measure``, called only where an ``auto`` needs it.

    ``shared`` is a folder of decisions that other runs read too: the first decision there holds for all with the same
    task, data and wishes.
    """
    sizes = {"eval": len(data.validation), "generate": len(data.validation), "test": len(data.test)}
    if data.objective.generation is None:
        sizes["generate"] = 0
    asked = {"eval": spec.eval_examples, "generate": spec.generate_examples, "test": spec.test_examples}
    whole = {"eval_of": sizes["eval"], "test_of": sizes["test"]}
    if AUTO not in asked.values():
        given = {
            name: sizes[name] if requested == ALL else min(requested, sizes[name]) for name, requested in asked.items()
        }
        return Judging(**{**given, "generate": min(given["generate"], given["eval"])}, **whole)
    key = json.dumps([spec.task, dict(spec.task_options), asked, sizes], sort_keys=True, default=str)
    known = distributed.broadcast(_read(shared, key))
    if known is not None:
        return known
    costs = yield from measure()
    chosen = affordable(spec, asked, sizes, costs, generates=data.objective.generation is not None)
    judging = Judging(**chosen, **whole, costs=costs)
    return distributed.broadcast(_write(shared, key, judging))


def measure(
    model: torch.nn.Module,
    member: Member,
    data: TaskData,
    device: torch.device,
    members: int,
    pass_tokens: int | None = None,
) -> Measuring:
    """The costs of one run on this machine, from its first batches; nothing of the run is changed.

    The update is timed without its optimizer step, on the batch that has most nearly the mean number of tokens of the
    first ``SAMPLED_BATCHES``, padding included. A pack of ``members`` multiplies all three by about the same.
    """
    spec, objective = member.spec, data.objective
    batch, share = _typical_batch(member, data.train, pass_tokens)

    def update(batch: AnySplit) -> None:
        _update(model, member, batch, objective, device, pass_tokens)

    of = 2 if objective.generation is None else 4
    yield Progress("measure", 0, of, "trials")
    one = batch.take(torch.arange(1))
    _seconds(lambda: update(one), device)  # the first pass of all is warm-up
    one_s = _seconds(lambda: update(one), device)
    batch, part_share = _part_within(batch, PROBE_S / max(one_s, 1e-6))
    update_s = _warm_seconds(lambda: update(batch), device)
    yield Progress("measure", 1, of, "trials")
    number = min(2 * spec.batch_size, len(data.validation), max(8, int(PROBE_S / max(one_s, 1e-6))))
    part, losses_only = data.validation.select(subset(len(data.validation), number)), _without_answers(objective)
    look_s = _warm_seconds(lambda: _drain(evaluate(model, [member], part, losses_only, device)), device)
    yield Progress("measure", 2, of, "trials")
    answers = {}
    if objective.generation is not None:
        answers = yield from _answer_costs(model, member, data, device, members)
    return Costs(update_s * part_share * share, look_s / number, **{"answer_s": 0.0, **answers})


def _part_within(batch: AnySplit, rows: float) -> tuple[AnySplit, float]:
    """(at most ``rows`` examples of a batch, at least four; the tokens of the whole as a multiple of theirs)."""
    size = max(4, int(rows))
    if size >= len(batch.labels):
        return batch, 1.0
    lengths = lengths_of(batch)
    chosen = torch.argsort(lengths, stable=True)[torch.linspace(0, len(lengths) - 1, size).long()]
    return batch.take(chosen), float(lengths.sum() / lengths[chosen].sum())


def _typical_batch(member: Member, train: AnySplit, pass_tokens: int | None) -> tuple[AnySplit, float]:
    """(a batch of nearly the mean cost of the first ones, that mean as a share of its own cost)."""
    spec = member.spec
    order = batch_order(spec, train)
    batches = [next(order) for _ in range(min(SAMPLED_BATCHES, max(1, spec.steps)))]
    lengths, padding = lengths_of(train), getattr(train, "padding", NO_PADDING)

    def tokens(rows: torch.Tensor) -> int:
        parts = split_rows([lengths[rows]], spec.gradient_accumulation, pass_tokens)
        return sum(len(part) * padding.width(int(lengths[rows[part]].max())) for part in parts)

    sizes = [tokens(rows) for rows in batches]
    mean = sum(sizes) / len(sizes)
    nearest = min(range(len(sizes)), key=lambda i: abs(sizes[i] - mean))
    return train.take(batches[nearest]), mean / max(1, sizes[nearest])


def _update(
    model: torch.nn.Module,
    member: Member,
    batch: AnySplit,
    objective: Any,
    device: torch.device,
    pass_tokens: int | None,
) -> None:
    """The passes of one update, its gradients thrown away."""
    model.train()
    count = max(1, objective.count(batch.labels))
    with routing(model, [member]):
        for rows in split_rows([lengths_of(batch)], member.spec.gradient_accumulation, pass_tokens):
            (output,) = forward(model, [member], [batch.take(rows)], device, objective)
            (output.loss / count).backward()
    for parameter in member.parameters.values():
        parameter.grad = None


def settle_threads(model: torch.nn.Module, member: Member, data: TaskData, device: torch.device) -> None:
    """Keep to one CPU thread where that is as fast as all that the job has, by a few small updates.

    On a busy machine threads wait for each other at every operation; on an idle one all are faster.
    """
    most = torch.get_num_threads()
    batch = data.train.take(torch.arange(1))
    seconds: dict[int, list[float]] = {most: [], 1: []}
    _update(model, member, batch, data.objective, device, None)  # warm-up
    for _ in range(THREAD_TRIALS):
        for threads, times in seconds.items():
            torch.set_num_threads(threads)
            times.append(_seconds(lambda: _update(model, member, batch, data.objective, device, None), device))
    torch.set_num_threads(min(seconds, key=lambda threads: min(seconds[threads])))


def _answer_costs(
    model: torch.nn.Module, member: Member, data: TaskData, device: torch.device, members: int
) -> Generator[Progress, None, dict[str, Any]]:
    """The costs of generated answers, taking every one to be as long as allowed: one batch of some, and one of one."""
    how, split = data.objective.generation, data.validation
    fits = rows_that_fit(model, device, members, int(split.source.lengths.max()), how.max_new_tokens)
    at_once = min(fits, max(2 * member.spec.batch_size, 16))
    number = max(1, min(len(split), at_once, PROBE_ROWS))
    model.eval()

    def timed(rows: int) -> tuple[float, float]:
        """(seconds until the first token of every row, median seconds of each further one)."""
        batch, short = split.take(subset(len(split), rows)), replace(how, max_new_tokens=some)
        times = [time.perf_counter()]
        times.extend(time.perf_counter() for _ in decode(model, [member], batch, device, short))
        steps = [after - before for before, after in pairwise(times)]
        return steps[0], median(steps[1:] or steps)

    some = min(PROBE_TOKENS, how.max_new_tokens)
    _, of_one = timed(1)  # first, as its first token pays for the warm-up
    yield Progress("measure", 3, 4, "trials")
    prompt_s, per_token = timed(number)
    if prompt_s < QUICK_S and number < (many := min(len(split), at_once, MANY_ROWS)):
        number = many  # of a fast model a few rows measure little but noise
        prompt_s, per_token = timed(number)
    yield Progress("measure", 4, 4, "trials")
    of_one = min(per_token, of_one)
    per_row = (per_token - of_one) / max(1, number - 1)
    more = how.max_new_tokens - 1
    return {
        "answer_s": prompt_s / number + per_row * more,
        "decode_s": max(0.0, of_one - per_row) * more,
        "answer_rows": at_once,
    }


def _without_answers(objective: Any) -> Any:
    return replace(objective, generation=None) if objective.generation is not None else objective


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _warm_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of ``work``, without what its first time alone costs where that can be had soon.

    Batches of a new size take up to half as long again, once.
    """
    seconds = _seconds(work, device)
    for limit_s in (2 * PROBE_S, WARM_S):
        if seconds < limit_s:
            seconds = min(seconds, _seconds(work, device))
    return seconds


def _drain(generator: Any) -> None:
    for _ in generator:
        pass


def _read(shared: Path | None, key: str) -> Judging | None:
    if shared is None:
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        body = json.loads((shared / _name(key)).read_text(encoding="utf-8"))
        if body.pop("key") == key:
            return Judging(**{**body, "costs": Costs(**body["costs"])})
    return None


def _write(shared: Path | None, key: str, judging: Judging) -> Judging:
    """Store the decision unless another run was faster; the one that holds."""
    if shared is None:
        return judging
    shared.mkdir(parents=True, exist_ok=True)
    temporary = shared / f"{_name(key)}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps({"key": key, **asdict(judging)}), encoding="utf-8")
    with suppress(FileExistsError):
        os.link(temporary, shared / _name(key))
    temporary.unlink()
    return _read(shared, key) or judging


def _name(key: str) -> str:
    return f"judging-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
