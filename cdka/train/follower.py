"""The processes of a run beside its leading one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cdka.runs.resolve import resolve_run
from cdka.runs.spec import RunSpec
from cdka.train.loop import train
from cdka.train.processes import process_group


def follow(directory: str, spec: dict[str, Any]) -> None:
    """Follow the leading process through its run, in a child process with the environment of its rank."""
    run = resolve_run(RunSpec.from_dict(spec))
    environment = {
        name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")
    }
    with process_group({**environment, "ACCELERATE_USE_CPU": os.environ.get("ACCELERATE_USE_CPU", "false")}):
        for _ in train([run], [Path(directory)]):
            pass
