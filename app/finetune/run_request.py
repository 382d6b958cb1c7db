"""From the order form to a plan of runs, and the launch that a double click cannot double."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from app import configurations
from cdka.runs.store import Store
from cdka.sweep.launch import launch
from cdka.sweep.plan import Plan, plan

DOUBLE_CLICK_S = 3.0
"""The same order within this time is the same click; later it is a wish for more runs."""


@dataclass(frozen=True)
class Order:
    """What the form asks for. ``entries`` and ``baselines`` as in the basket and in ``cdka.sweep.plan``.

    ``seeds`` is how many, counted from ``first_seed``; ``settings`` are the
    recipe's knobs as given: steps, lr, alpha, ...
    """

    model: str
    task: str
    entries: tuple[str, ...]
    baselines: tuple[str, ...] = ()
    seeds: int = 1
    settings: tuple[tuple[str, Any], ...] = ()
    first_seed: int = 0

    def plan(self) -> Plan:
        """The runs to be launched. Raises CdkaError where nothing can be trained; what is left out is in the notes."""
        arms = [configurations.run_settings(text) for text in self.entries]
        return plan(
            self.model,
            self.task,
            arms=arms,
            baselines=self.baselines,
            settings=dict(self.settings),
            seeds=list(range(self.first_seed, self.first_seed + self.seeds)) if self.first_seed else self.seeds,
        )


@dataclass
class Launcher:
    """Hands orders to the store once per wish. One per browser session."""

    last: Order | None = None
    last_at: float = float("-inf")
    request_id: str = ""

    def launch(self, store: Store, order: Order) -> str:
        """The id of the sweep that holds the runs; the same order again within three seconds gives the same sweep."""
        planned = order.plan()
        now = time.monotonic()
        if order != self.last or now - self.last_at > DOUBLE_CLICK_S:
            self.request_id = f"studio-{uuid.uuid4().hex}"
        self.last, self.last_at = order, now
        return launch(planned, store, request_id=self.request_id)
