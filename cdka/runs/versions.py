"""Package versions and the commit of a source checkout that a run was made with."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("cdka-studio", "torch", "transformers", "peft", "numpy")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions by package name, ``python``, and ``commit`` where the code runs from a git checkout."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        try:
            asked = subprocess.run(
                ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5
            )
        except (OSError, subprocess.TimeoutExpired):
            return found
        if asked.returncode == 0:
            found["commit"] = asked.stdout.strip()
    return found
