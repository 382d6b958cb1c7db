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
from pathlib import Path
from typing import Any

import torch

from cdka.cost.judging import Costs, Judging, affordable
from cdka.runs.spec import ALL, AUTO, RunSpec
from cdka.train import distributed
from cdka.train.data.splits import AnySplit, TaskData, TextSplit
from cdka.train.evaluate import Progress, evaluate
from cdka.train.forward import forward, routing
from cdka.train.generate import decode, rows_that_fit
from cdka.train.member import Member

SEED = 2602
"""Draws the subsets, the same for every run, whatever its own seed."""
PROBE_TOKENS, PROBE_ROWS = 8, 8
WARM_S = 1.0


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


def measure(model: torch.nn.Module, member: Member, data: TaskData, device: torch.device, members: int) -> Measuring:
    """The costs of one run on this machine, from its first batches; nothing of the run is changed.

    The update is timed without its optimizer step. A pack of ``members`` multiplies all three by about the same.
    """
    spec, objective = member.spec, data.objective
    batch = data.train.take(torch.arange(min(spec.batch_size, len(data.train))))

    def update() -> None:
        model.train()
        with routing(model, [member]):
            (output,) = forward(model, [member], [batch], device, objective)
            (output.loss / max(1, objective.count(batch.labels))).backward()
        for parameter in member.parameters.values():
            parameter.grad = None

    rows = subset(len(data.validation), min(2 * spec.batch_size, len(data.validation)))
    part, losses_only = data.validation.select(rows), _without_answers(objective)
    of = 2 if objective.generation is None else 4
    yield Progress("measure", 0, of, "trials")
    update_s = _seconds(update, device)
    if update_s < WARM_S:  # of a fast update the first is mostly warm-up
        update_s = _seconds(update, device)
    yield Progress("measure", 1, of, "trials")
    look_s = _seconds(lambda: _drain(evaluate(model, [member], part, losses_only, device)), device)
    yield Progress("measure", 2, of, "trials")
    step_s = update_s * _mean_length(data.train) / max(1.0, _padded_length(batch))
    answer_s = 0.0
    if objective.generation is not None:
        answer_s = yield from _answer_s(model, member, data, device, members)
    return Costs(step_s, look_s / len(rows), answer_s)


def _answer_s(
    model: torch.nn.Module, member: Member, data: TaskData, device: torch.device, members: int
) -> Generator[Progress, None, float]:
    """Seconds per generated answer in the largest batch that fits, taking every answer to be as long as allowed."""
    how, split = data.objective.generation, data.validation
    fits = rows_that_fit(model, device, members, int(split.source.lengths.max()), how.max_new_tokens)
    number = min(len(split), fits, max(2 * member.spec.batch_size, 16), PROBE_ROWS)
    batch = split.take(subset(len(split), number))
    model.eval()
    seconds = []
    lengths = (1, min(PROBE_TOKENS, how.max_new_tokens))
    for done, tokens in enumerate(lengths, start=3):
        short = replace(how, max_new_tokens=tokens)
        seconds.append(_seconds(lambda short=short: _drain(decode(model, [member], batch, device, short)), device))
        yield Progress("measure", done, 4, "trials")
    per_token = max(0.0, seconds[1] - seconds[0]) / max(1, lengths[1] - lengths[0])
    return (seconds[0] + per_token * (how.max_new_tokens - 1)) / number


def _without_answers(objective: Any) -> Any:
    return replace(objective, generation=None) if objective.generation is not None else objective


def _mean_length(split: AnySplit) -> float:
    return float(split.lengths.double().mean()) if isinstance(split, TextSplit) else 1.0


def _padded_length(batch: AnySplit) -> float:
    return float(batch.lengths.max()) if isinstance(batch, TextSplit) else 1.0


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


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
