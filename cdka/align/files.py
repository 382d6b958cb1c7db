"""Files of the alignment lab in the home folder: one record, one status and one set of gradients per request."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.align.request import AlignRequest
from cdka.paths import home_dir, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


def align_dir() -> Path:
    """The folder of all files of the lab, created if absent."""
    folder = home_dir() / "align"
    folder.mkdir(exist_ok=True)
    return folder


def record_file(request: AlignRequest) -> Path:
    """The file of the finished measurement."""
    return align_dir() / f"record-{request.key}.json"


def status_file(request: AlignRequest) -> Path:
    """The file in which the measuring process writes its progress."""
    return align_dir() / f"state-{request.key}.json"


def log_file(request: AlignRequest) -> Path:
    """The log of the measuring process."""
    return align_dir() / f"log-{request.key}.txt"


def gradient_file(request: AlignRequest) -> Path:
    """The file of the measured gradients; requests that differ in their grid alone share it."""
    return align_dir() / f"gradients-{request.gradient_key}.npz"


def write_status(request: AlignRequest, status: dict[str, Any]) -> None:
    """Replace the stored status: ``pid`` and ``started`` of the process, and ``phase`` and ``share``, or ``cause``."""
    write_atomically(status_file(request), json.dumps(status))


def save_gradients(request: AlignRequest, gradients: Mapping[str, np.ndarray]) -> None:
    """Store the gradients, all or nothing."""
    import numpy as np

    file = gradient_file(request)
    temporary = file.with_name(f"{file.stem}.{os.getpid()}.tmp.npz")
    np.savez(temporary, allow_pickle=False, **dict(gradients))
    temporary.replace(file)


def load_gradients(request: AlignRequest) -> dict[str, np.ndarray] | None:
    """The stored gradients, (out_features, in_features) each, by module path; None where there are none."""
    import numpy as np

    file = gradient_file(request)
    if not file.is_file():
        return None
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}
