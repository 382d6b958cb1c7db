"""Save a run's adapter whole or not at all, and checkpoints that a later attempt resumes from; safetensors only."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cdka.errors import CdkaError
from cdka.paths import replace_path
from cdka.runs.spec import RunSpec
from cdka.train import distributed
from cdka.train.member import Member

LABELS_FILE = "labels.json"
"""Beside an adapter's weights: ``{"id2label": {"0": "dry", ...}}``, as a model's config.json has it."""


def _fresh(destination: Path) -> Path:
    partial = destination.with_name(destination.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def save_adapter(model: torch.nn.Module, member: Member, destination: Path) -> Path:
    """Write the run's adapter (PEFT format), or the whole model after full fine-tuning, to ``destination``.

    It is written under another name and renamed, so ``destination`` is never half an adapter.
    """
    if not distributed.is_main():
        return destination
    partial = _fresh(destination)
    if isinstance(model, PeftModel):
        # Embeddings are never among the targets; "auto" would ask the Hub about the vocabulary.
        model.save_pretrained(partial, selected_adapters=[member.adapter], save_embedding_layers=False)
        inner = partial / member.adapter
        if inner.is_dir():
            for file in inner.iterdir():
                file.rename(partial / file.name)
            inner.rmdir()
    else:
        model.save_pretrained(partial)
    _save_labels(model, partial)
    replace_path(partial, destination)
    return destination


def _save_labels(model: torch.nn.Module, folder: Path) -> None:
    """Writes which output is which label beside an adapter of a classifier; a whole model has it in its config."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    names = getattr(base.config, "id2label", None)
    if isinstance(model, PeftModel) and type(base).__name__.endswith("Classification") and names:
        labels = {"id2label": {str(number): name for number, name in names.items()}}
        (folder / LABELS_FILE).write_text(json.dumps(labels, indent=2, ensure_ascii=False), encoding="utf-8")


def save_checkpoint(member: Member, destination: Path) -> None:
    """Write all that ``resume`` needs: parameters, optimizer state, step and the best evaluation so far."""
    if not distributed.is_main():
        return
    partial = _fresh(destination)
    tensors = {}
    for name, parameter in _named(member):
        tensors[f"parameter.{name}"] = parameter.detach().cpu().contiguous()
        for key, value in member.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    save_file(tensors, partial / "state.safetensors")
    facts = {
        "spec": member.spec.to_dict(),
        "step": member.step,
        "tokens": member.tokens,
        "best_accuracy": member.best_accuracy,
        "best_quality": member.best_quality,
        "looks_since_best": member.looks_since_best,
        "retained_before": member.retained_before,
        "best_step": member.best_step,
    }
    (partial / "state.json").write_text(json.dumps(facts))
    replace_path(partial, destination)


class Checkpoints:
    """Times at which the runs of a pack are saved: every ``checkpoint_every`` steps where that is set.

    Otherwise by time, at an evaluation, so that a long run never loses more than minutes: at least ``AT_LEAST_S``
    apart, and so seldom that saving takes at most a ``SHARE`` of the time. Full fine-tuning is left out there: its
    checkpoints are three times its model.
    """

    AT_LEAST_S, SHARE = 60.0, 0.02

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._next = time.monotonic() + self.AT_LEAST_S

    def due(self, steps_done: int, evaluated: bool) -> bool:
        """True where the runs are saved after this step; never after the last one."""
        if steps_done >= self._spec.steps:
            return False
        if self._spec.checkpoint_every:
            return steps_done % self._spec.checkpoint_every == 0
        return evaluated and self._spec.method != "full" and time.monotonic() >= self._next

    def save(self, members: Sequence[Member]) -> None:
        """Write a checkpoint of each run."""
        started = time.monotonic()
        for member in members:
            save_checkpoint(member, member.directory / "checkpoint")
        ended = time.monotonic()
        self._next = ended + max(self.AT_LEAST_S, (ended - started) / self.SHARE)


class DamagedCheckpoint(Exception):
    """A checkpoint that cannot be read whole (a power cut, a full disk); nothing of it has been used."""


def resume(member: Member, source: Path) -> bool:
    """Continue ``member`` from a checkpoint of the same spec; False where there is none.

    Raises DamagedCheckpoint for one that cannot be read; the member is then as it was before.
    """
    if not source.exists():
        source = source.with_name(source.name + ".old")  # killed while the newer one was put in its place
    if not (source / "state.json").is_file():
        return False
    try:
        facts = json.loads((source / "state.json").read_text())
        if "tokens" not in facts or not _is_of(facts["spec"], member.spec):
            return False
        tensors = load_file(source / "state.safetensors")
        for name, parameter in _named(member):
            if tensors[f"parameter.{name}"].shape != parameter.shape:
                raise ValueError(f"{name} has another shape")
        step, best_accuracy, best_step = facts["step"], facts["best_accuracy"], facts["best_step"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedCheckpoint(" ".join(str(error).split())[:120] or type(error).__name__) from None
    with torch.no_grad():
        for name, parameter in _named(member):
            parameter.copy_(tensors[f"parameter.{name}"])
            member.optimizer.state[parameter] = {
                key.split(".", 2)[1]: _like(value, parameter, key)
                for key, value in tensors.items()
                if key.startswith("optimizer.") and key.split(".", 2)[2] == name
            }
    for _ in range(step):
        next(member.order)
    member.step, member.best_accuracy, member.best_step = step, best_accuracy, best_step
    member.best_quality = facts.get("best_quality", best_accuracy)
    member.looks_since_best, member.tokens = facts.get("looks_since_best", 0), facts.get("tokens")
    member.retained_before = facts.get("retained_before", {})
    member.first_tokens = member.tokens or 0
    return True


def _is_of(stored: dict, spec: RunSpec) -> bool:
    """True for a checkpoint of this spec; an older version stored fewer settings, which then had their defaults."""
    try:
        return RunSpec.from_dict(stored) == spec
    except CdkaError:
        return False


def _named(member: Member) -> list[tuple[str, torch.nn.Parameter]]:
    """The run's parameters under names that do not tell its place in a pack: a retry may train alone."""
    return [
        (".".join("default" if part == member.adapter else part for part in name.split(".")), parameter)
        for name, parameter in member.parameters.items()
    ]


def _like(value: torch.Tensor, parameter: torch.Tensor, key: str) -> torch.Tensor:
    """Moments live beside their parameter; the step count of the fused AdamW too."""
    return value.to(parameter.device) if key.startswith("optimizer.step.") else value.to(parameter)
