"""Names of runs and sweeps: short, unique, and unable to lead out of the home."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from cdka.errors import CdkaError

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no look-alikes: people read these aloud and type them
_PATTERN = re.compile(r"[a-z]-[0-9a-z]{1,16}")


def new_id(letter: str) -> str:
    """A fresh random name such as ``r-4kq7mz2n`` (40 bits)."""
    return f"{letter}-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def check_id(name: str, what: str = "run") -> str:
    """``name`` itself if it has the form of an id, whole or a prefix; raises CdkaError otherwise."""
    if not isinstance(name, str) or not _PATTERN.fullmatch(name):
        example = {"run": "r-4kq7mz2n", "sweep": "s-4kq7mz2n"}[what]
        raise CdkaError(f"a {what} is named by its id: got {str(name)[:80]!r}. Example: {example}; see: cdka runs list")
    return name


def run_directory(home: Path, run_id: str) -> Path:
    """The folder of one run, always directly inside ``home/runs``."""
    return home / "runs" / check_id(run_id)
