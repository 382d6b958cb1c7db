"""Fingerprint of the code on disk, so that a long-lived process notices when its imports are out of date."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_NEVER_IN_A_WORKER = ("__pycache__", "_assets", "bench", "cli", "compare", "sweep")


def _sources(folder: Path) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NEVER_IN_A_WORKER:
                    yield from _sources(Path(entry.path))
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield entry.path, status.st_mtime_ns, status.st_size


def fingerprint() -> int:
    """A number that changes when the code of workers is edited, or when packages are installed or removed beside torch.

    Costs about a millisecond; torch is located, not imported.
    """
    beside = [part for part in getattr(find_spec("torch"), "submodule_search_locations", None) or ()]
    installed = tuple(
        (entry.name, entry.stat().st_mtime_ns)
        for part in beside
        for entry in os.scandir(Path(part).parent)
        if entry.name.endswith((".dist-info", ".pth"))
    )
    return hash((tuple(sorted(_sources(_PACKAGE))), tuple(sorted(installed))))
