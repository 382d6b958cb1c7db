"""Report a run to an experiment tracker that people use, through accelerate's own adapters for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cdka.machine import check_tracker
from cdka.runs.events import Evaluated, Event, Final, Step
from cdka.runs.spec import RunSpec
from cdka.train import distributed

PROJECT = "cdka"


def tracked(
    events: Iterator[tuple[int, Event]], specs: Sequence[RunSpec], directories: Sequence[Path]
) -> Iterator[tuple[int, Event]]:
    """The same events, the losses and metrics among them reported to each run's tracker on the way."""
    if not any(spec.report_to for spec in specs) or not distributed.is_main():
        yield from events
        return
    trackers = [
        _start(spec, Path(directory)) if spec.report_to else None
        for spec, directory in zip(specs, directories, strict=True)
    ]
    try:
        for index, event in events:
            tracker, values = trackers[index], _values(event)
            if tracker is not None and values:
                tracker.log(values, step=getattr(event, "step", specs[index].steps))
            yield index, event
    finally:
        for tracker in trackers:
            if tracker is not None:
                tracker.finish()


def _start(spec: RunSpec, directory: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    check_tracker(spec.report_to)
    maker = LOGGER_TYPE_TO_CLASS[spec.report_to]
    name = f"{spec.label} seed {spec.seed} ({directory.name})"
    where = {"logging_dir": str(directory)} if maker.requires_logging_directory else {}
    tracker = maker(PROJECT if spec.report_to != "tensorboard" else "tracker", **where, **_named(spec.report_to, name))
    tracker.start()
    config = {key: value for key, value in spec.to_dict().items() if isinstance(value, str | int | float | bool)}
    tracker.store_init_configuration(config)
    return tracker


def _named(tracker: str, name: str) -> dict[str, Any]:
    return {"wandb": {"name": name}, "trackio": {"name": name}, "mlflow": {"run_name": name}}.get(tracker, {})


def _values(event: Event) -> dict[str, float]:
    if isinstance(event, Step):
        found = {"train/loss": event.loss, "train/lr": event.lr, "train/grad_norm": event.grad_norm}
    elif isinstance(event, Evaluated | Final):
        found = event.metrics
    else:
        return {}
    return {key: value for key, value in found.items() if isinstance(value, int | float)}
