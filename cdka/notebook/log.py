"""Runs that a script of the user's trains, written into the store: they appear in Fine-tune and Compare like any other.

The script owns its run. One that ends without a report is lost, which whoever looks at the runs finds out by its
process: ``cdka.engine.local.conclude_orphans``.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.components import Components
from cdka.engine.process import own_identity
from cdka.engine.recorder import Recorder
from cdka.errors import CdkaError
from cdka.machine import versions
from cdka.notebook.runs import RunHandle, Store
from cdka.runs.events import Cancelled, Evaluated, Event, Failed, Final, Note, Phase, Saved, Start, Step
from cdka.runs.job_queue import SCRIPT, begin, claim
from cdka.runs.metrics import prefixed
from cdka.runs.spec import FIELD_NAMES, RunSpec
from cdka.runs.states import PHASES

if TYPE_CHECKING:
    from torch import nn

_SPLITS = ("train/", "eval/", "test/")


def log_run(
    *,
    model: str,
    task: str,
    num_params: int | None = None,
    components: Components | str | tuple[int, int, int] | None = None,
    group: str | None = None,
    home: str | Path | None = None,
    **settings: Any,
) -> LoggedRun:
    """A run of your own training loop, open for what it reports; a context manager.

    ``model`` and ``task`` are names of your own. ``settings`` are those of a run (``method``, ``rank``, ``lr``,
    ``steps``, ``batch_size``, ``seed``, ...); without components and rank it counts as full fine-tuning. Runs of one
    ``group`` (default: the task's name) are compared together. Raises CdkaError for a setting that a run does not have.

    >>> with cdka.log_run(model="my-mlp", task="my-data", components=(2, 8, 1), steps=100, seed=0) as run:
    ...     for step in range(1, 101):
    ...         run.step(step, loss=1 / step)
    ...     run.evaluate(accuracy=0.9, loss=0.3)
    >>> run.handle.status
    <RunState.DONE: 'done'>
    """
    if components is not None:
        settings["components"] = Components.parse(components)
    settings.setdefault("method", "cdka" if components is not None else "lora" if "rank" in settings else "full")
    for name in settings:
        if name not in FIELD_NAMES:
            raise CdkaError(f"a logged run takes the settings of a run: got {name}. Known: {', '.join(FIELD_NAMES)}.")
    spec = RunSpec(model=model, task=task, **settings)
    return LoggedRun(Store(home), spec, group or task, num_params=num_params)


class LoggedRun:
    """A run at work in this process. ``step`` and ``evaluate`` report; ``finish`` ends it, as leaving the block does.

    An exception that leaves the block makes it failed, with its text as the cause. ``stop_requested`` becomes "keep" or
    "cancel" when somebody presses Stop or Cancel in the Studio: it is for the loop to act on.
    """

    def __init__(self, store: Store, spec: RunSpec, group: str, *, num_params: int | None = None) -> None:
        self.spec, self.store = spec, store
        identity = own_identity()
        self.run_id, attempt = begin(store.database, spec, identity, SCRIPT, group=group)
        claim(store.database, self.run_id, attempt, identity)
        self._recorder = Recorder(store, [(self.run_id, attempt)])
        self._started, self._done = time.monotonic(), 0
        self._last: dict[str, float] = {}
        self._best: tuple[float, int] | None = None
        self._open = True
        atexit.register(self._leave)
        self._add(Start(num_params=num_params, total_steps=spec.steps, versions=versions()))
        self._add(Phase(phase=PHASES[2]))

    @property
    def handle(self) -> RunHandle:
        """The run as the store has it."""
        return RunHandle(self.store, self.run_id)

    @property
    def directory(self) -> Path:
        """The folder of the run, made if absent; an adapter saved in its ``adapter`` can be opened in the Studio."""
        folder = self.handle.row.directory
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def stop_requested(self) -> str | None:
        """ "keep", "cancel" or None: what somebody asked of the run."""
        return self._recorder.stop_requested(0) if self._open else None

    def _add(self, event: Event) -> None:
        self._recorder.add(0, event)

    def _place(self, step: int) -> dict[str, Any]:
        samples = step * self.spec.batch_size
        return {"step": step, "samples": samples, "elapsed_s": time.monotonic() - self._started}

    def step(
        self,
        step: int | None = None,
        *,
        loss: float | None = None,
        lr: float | None = None,
        grad_norm: float | None = None,
        tokens: int | None = None,
    ) -> None:
        """Report one update: its number (the next where None, the first is 1), its loss and learning rate."""
        self._done = self._done + 1 if step is None else int(step)
        loss, lr, grad_norm = (None if value is None else float(value) for value in (loss, lr, grad_norm))
        self._add(Step(loss=loss, lr=lr, grad_norm=grad_norm, tokens=tokens, **self._place(self._done)))
        self._recorder.stop_requested(0)  # what waits is stored a few times a second

    def evaluate(self, metrics: Mapping[str, float] | None = None, **scores: float) -> None:
        """Report an evaluation on the validation split after the last step: ``accuracy=``, ``loss=``, other scores."""
        self._last = _named("eval", {**(metrics or {}), **scores})
        self._add(Evaluated(metrics=self._last, **self._place(self._done)))
        quality = self._last.get("eval/accuracy")
        if quality is not None and (self._best is None or quality > self._best[0]):
            self._best = (quality, self._done)

    def note(self, text: str) -> None:
        """A line for whoever reads the run."""
        self._add(Note(text=text))

    def save_adapter(self, model: nn.Module) -> Path:
        """The folder of the model's adapter, saved as PEFT does: the Studio and ``run.adapter()`` open it there."""
        folder = self.directory / "adapter"
        model.save_pretrained(str(folder))
        self._add(Saved(directory=str(folder)))
        return folder

    def finish(self, metrics: Mapping[str, float] | None = None, *, stopped: bool = False, **scores: float) -> None:
        """End the run as done (or as stopped early and kept), with metrics of the test split: ``accuracy=``, ..."""
        if not self._open:
            return
        best = {} if self._best is None else {"eval/best_accuracy": self._best[0], "best_step": self._best[1]}
        metrics_now = {**self._last, **best, **_named("test", {**(metrics or {}), **scores}), "steps_done": self._done}
        self._end(Final(metrics={**metrics_now, "training_s": time.monotonic() - self._started}, stopped=stopped))

    def fail(self, cause: str) -> None:
        """End the run as failed, for one reason in one line."""
        self._end(Failed(cause=" ".join(cause.split())[:300], step=self._done))

    def cancel(self) -> None:
        """End the run as cancelled."""
        self._end(Cancelled())

    def _end(self, event: Event) -> None:
        if self._open:
            self._open = False
            atexit.unregister(self._leave)
            self._add(event)
            self._recorder.close()

    def _leave(self) -> None:
        self.fail("the script ended before it finished the run.")

    def __enter__(self) -> LoggedRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            self.finish(stopped=self.stop_requested == "keep")
        elif isinstance(error, KeyboardInterrupt):
            self.cancel()
        else:
            self.fail(f"{type(error).__name__}: {error}")


def _named(split: str, scores: Mapping[str, Any]) -> dict[str, float]:
    """``scores`` as numbers, under the names of a split where they name none."""
    plain = {name: float(value) for name, value in scores.items() if value is not None}
    own = {name: value for name, value in plain.items() if name.startswith(_SPLITS)}
    return {**prefixed(split, {name: value for name, value in plain.items() if name not in own}), **own}
