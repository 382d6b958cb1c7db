"""The learning-rate search of a sweep: the same rates for every arm, also the baselines, chosen on validation data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError
from cdka.runs.resolve import ResolvedRun
from cdka.tasks.catalogue import find_task

if TYPE_CHECKING:
    from cdka.sweep.plan import Arm


def learning_rates(values: Sequence[float]) -> list[float]:
    """The rates of a search, ascending, each once. Raises CdkaError for a value that is no positive number."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise CdkaError(f"tune_lr takes positive learning rates: got {value!r}. Example: 1e-3,3e-3,1e-2.")
    return sorted({float(value) for value in values})


def with_search(arms: Sequence[Arm], base: Mapping[str, Any], notes: list[str]) -> list[Arm]:
    """The arms, each marked as part of the search or not. Raises CdkaError where no validation data are left."""
    for task in dict.fromkeys(arm.spec.task for arm in arms):
        known = find_task(task).examples
        given = base.get("task_options") or {}
        shares = [given.get(name) for name in ("validation_fraction", "validation_examples")]
        if (known and not known.get("validation")) or any(_is_zero(share) for share in shares):
            raise CdkaError(
                f"a fair search chooses on validation data: task {task!r} has none here. Hold some examples out, or "
                "give one learning rate and no search."
            )
    own = [arm for arm in arms if "lr" in arm.settings]
    if own:
        listed = ", ".join(dict.fromkeys(f"{arm.spec.label} at {arm.spec.lr:g}" for arm in own[:3]))
        some = "1 arm names its" if len(own) == 1 else f"{len(own)} arms name their"
        notes.append(f"not tuned: {some} own learning rate ({listed}{', ...' if len(own) > 3 else ''})")
    return [replace(arm, tuned="lr" not in arm.settings) for arm in arms]


def runs_of(arms: Sequence[Arm], seeds: Sequence[int], rates: Sequence[float]) -> Iterable[ResolvedRun]:
    """Every arm with every seed, and with every rate of the search that it takes part in."""
    for seed in seeds:
        for rate in rates:
            yield from (arm.run.with_(seed=seed, lr=rate) for arm in arms if arm.tuned)
        yield from (arm.run.with_(seed=seed) for arm in arms if not arm.tuned)


def _is_zero(value: Any) -> bool:
    try:
        return value is not None and float(value) == 0
    except (TypeError, ValueError):
        return False
