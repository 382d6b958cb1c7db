"""Ask the base model, a run's adapter and others one question, in a child process that has torch; streamed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from cdka import childproc
from cdka.errors import CdkaError
from cdka.paths import expanded
from cdka.runs.events import Start
from cdka.runs.run import Run
from cdka.runs.store import Store
from cdka.tasks.prompts import INSTRUCTION

BASE = "base"
SILENCE_LIMIT_S = 300.0
"""Loading a model sends nothing."""
MAX_NEW_TOKENS = 128
_RAW = ("math-chain", "math", "local-text")
"""Tasks whose prompts stand alone, without a template around them."""

Tryout = Generator[dict[str, Any], None, list[dict[str, Any]]]
"""Yields ``{"who", "text", "seconds"}`` as the text grows, and returns the whole answers in the same form."""


def ask(
    adapter: str | Path,
    prompt: str,
    *,
    against: Sequence[str] = (BASE,),
    store: Store | None = None,
    max_new_tokens: int | None = None,
    pixels: Sequence[Sequence[float]] | None = None,
) -> Tryout:
    """The answers of ``against`` (``"base"``, other adapters) and of ``adapter`` to one prompt, side by side.

    An adapter is a run's id or a folder. The prompt is laid out as the run's own were: by the chat template where it
    was, else by the task's. ``pixels`` (rows of numbers from 0 to 1) is a drawn picture in place of the prompt. Raises
    CdkaError for an adapter that is not there.
    """
    run, folder = _found(str(adapter), store)
    models = [_model(name, run, folder, store) for name in against]
    models.append({"who": _who(run, folder), "folder": str(folder), "labels": _labels(run, store)})
    request = {
        "models": models,
        "prompt": prompt,
        "max_new_tokens": max_new_tokens or MAX_NEW_TOKENS,
        "pixels": None if pixels is None else [list(map(float, row)) for row in pixels],
        **_layout(run),
    }
    return childproc.stream(
        "cdka.train.inference:answers",
        request,
        silence_limit_s=SILENCE_LIMIT_S,
        failure=f"{_who(run, folder)} could not be asked",
    )


def _layout(run: Run | None) -> dict[str, Any]:
    """The layout of prompts in the run; an adapter without a run gets the chat template if its base has one."""
    if run is None:
        return {"template": "{prompt}", "chat": True, "system_prompt": ""}
    spec = run.spec
    template = str(spec.task_options.get("template", "{prompt}" if spec.task in _RAW else INSTRUCTION))
    return {"template": template, "chat": spec.chat_template == "auto", "system_prompt": spec.system_prompt}


def _labels(run: Run | None, store: Store | None) -> list[str]:
    """The names of the labels that a run was trained on, as it reported them at its start; empty where it has none."""
    events = [] if run is None else (store or Store()).events(run.run_id, kinds=[Start.kind])
    return list(events[-1].get("label_names", ())) if events else []


def _model(name: str, run: Run | None, folder: Path, store: Store | None) -> dict[str, Any]:
    if name == BASE:
        if not (folder / "adapter_config.json").is_file():
            if run is None:
                raise CdkaError(f"a full model names no base to compare with: {str(folder)!r}. Use --against OTHER.")
            from cdka.models.locate import locate

            return {"who": BASE, "folder": str(locate(run.spec.model))}
        return {"who": BASE, "folder": str(folder), "base": "yes", "labels": _labels(run, store)}
    other, place = _found(name, store)
    return {"who": _who(other, place), "folder": str(place), "labels": _labels(other, store)}


def _found(name: str, store: Store | None) -> tuple[Run | None, Path]:
    """(the run, its adapter's folder) of a run's id, or of a folder, which may be a run's."""
    path = expanded(name)
    store = store or Store()
    if path.is_dir():
        path = path.resolve()
        within = {folder.name: folder for folder in (path, *path.parents) if folder.parent == store.home / "runs"}
        run = next(iter(store.runs(ids=within)), None)
        inner = path / "adapter"
        return run, inner if inner.is_dir() and not (path / "adapter_config.json").is_file() else path
    run = store.run(name)
    if not run.adapter_dir.is_dir():
        raise CdkaError(
            f"run {run.run_id} has kept no adapter: it is {run.status}. Name a run that is done or stopped."
        )
    return run, run.adapter_dir


def _who(run: Run | None, folder: Path) -> str:
    return folder.name if run is None else f"{run.spec.label} ({run.run_id})"


def finished(tryout: Tryout) -> list[dict[str, Any]]:
    """The whole answers, the streamed text left unread."""
    while True:
        try:
            next(tryout)
        except StopIteration as end:
            return end.value
