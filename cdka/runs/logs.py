"""The end of a log, however long the log is."""

from __future__ import annotations

from pathlib import Path

LOG_TAIL_BYTES = 20_000


def log_tail(path: Path, most_bytes: int = LOG_TAIL_BYTES) -> str:
    """The last ``most_bytes`` of a text file, from the start of a line; empty where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most_bytes))
            tail = file.read(most_bytes)
    except FileNotFoundError:
        return ""
    if size > most_bytes and b"\n" in tail:
        tail = tail.split(b"\n", 1)[1]
    return tail.decode("utf-8", errors="replace")
