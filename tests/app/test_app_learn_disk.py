"""A full disk costs a few ticks in the margin, never the lesson."""

from __future__ import annotations

import errno
from pathlib import Path

from app.learn import progress


def test_progress_that_cannot_be_written_is_forgone(home, monkeypatch):
    before = progress.load()

    def full(self, *args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    progress.update(lambda kept: kept.seen(1, 1))
    assert progress.load() == before
