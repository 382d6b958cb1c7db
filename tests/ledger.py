"""The table of faults: what was done to runs on purpose, how often, and what it cost. Printed after the tests.

All of it, with 20 tries of most faults, an hour and a half on two cores that do nothing else: ``python -m pytest
tests/engine tests/runs tests/browser -m "slow or not slow"``. ``CDKA_TRIES=5`` asks for fewer, ``CDKA_TRIES=5-20``
for the others.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

HEAD = ("fault", "times tried", "runs", "runs lost", "events twice or missing", "orphan processes", "half adapters")


def tries(by_default: int = 0) -> list:
    """The numbers of the tries of one fault, each a seed; all but the first ``by_default`` are slow tests."""
    first, _, last = os.environ.get("CDKA_TRIES", "20").rpartition("-")
    numbers = range(int(first or 0), int(last))
    return [n if i < by_default else pytest.param(n, marks=pytest.mark.slow) for i, n in enumerate(numbers)]


@dataclass
class Damage:
    """What an audit found wrong: lines of text, none of which should be there."""

    lost: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    halves: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return self.lost + self.events + self.orphans + self.halves


class Ledger:
    """One per test session."""

    def __init__(self) -> None:
        self._tried: Counter[str] = Counter()
        self._found: dict[str, Counter[str]] = {}

    def tried(self, fault: str, times: int = 1) -> None:
        """A fault was inflicted, ``times`` times."""
        self._tried[fault] += times

    def audited(self, faults: Iterable[str], runs: int, damage: Damage) -> None:
        """``runs`` runs that went through these faults were looked at, and this was found."""
        for fault in faults:
            row = self._found.setdefault(fault, Counter())
            row["runs"] += runs
            for kind, lines in vars(damage).items():
                row[kind] += len(lines)

    def rows(self) -> list[tuple[str, ...]]:
        """The table without its head; a fault that was never audited has dashes."""
        columns = ("runs", "lost", "events", "orphans", "halves")
        return [
            (fault, str(times), *(str(self._found[fault][c]) if fault in self._found else "-" for c in columns))
            for fault, times in sorted(self._tried.items())
        ]

    def write(self, terminal) -> None:
        """Print the table at the end of a pytest session."""
        rows = self.rows()
        if not rows:
            return
        widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD))]
        terminal.section("faults on purpose")
        for row in (HEAD, *rows):
            first, *others = row
            terminal.line("  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]))


LEDGER = Ledger()
