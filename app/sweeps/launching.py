"""One launch per wish: a second click within moments is the same wish."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

from app.finetune.run_request import DOUBLE_CLICK_S
from cdka.runs.store import Store
from cdka.sweep.launch import launch
from cdka.sweep.plan import Plan


@dataclass
class Launcher:
    """Hands plans to the store, once per wish. One per browser session."""

    _given: dict[str, tuple[str, float]] = field(default_factory=dict)

    def launch(self, store: Store, plan: Plan, wish: str) -> str:
        """The id of the sweep; the same ``wish`` again within three seconds of its launch gives the same sweep."""
        request_id, at = self._given.get(wish, ("", float("-inf")))
        if time.monotonic() - at > DOUBLE_CLICK_S:
            request_id = f"studio-{uuid.uuid4().hex}"
        sweep_id = launch(plan, store, request_id=request_id)
        self._given[wish] = (request_id, time.monotonic())
        return sweep_id
