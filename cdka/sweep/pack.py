"""Packs: the runs of a sweep that train together over one frozen base. Pure: numbers in, pack numbers out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from cdka.runs.spec import SHARED, RunSpec

MAX_PACK = 16
"""More runs than this in one pack gain nothing further, and all of them fall with the process."""


def pack(
    specs: Sequence[RunSpec],
    *,
    slots: int = 1,
    most: int = MAX_PACK,
    fits: Callable[[Sequence[int]], bool] = lambda positions: True,
) -> tuple[list[int | None], list[str]]:
    """A pack number per spec (None: trains alone) and notes on what was split, and why.

    Only CDKA adapters share a batch (PEFT's others refuse mixed batches while training), and only where the settings
    in ``runs.spec.SHARED`` agree. Packs are of even size, and at least ``slots`` of them where there is work for as
    many. ``fits`` takes positions in ``specs`` and returns True for a pack that is expected to fit the memory; one
    that does not is halved until its parts do.
    """
    groups: dict[str, list[int]] = {}
    for i, spec in enumerate(specs):
        if spec.can_share_batches:
            groups.setdefault(_key(spec), []).append(i)
    numbers: list[int | None] = [None] * len(specs)
    notes: list[str] = []
    number = 0
    for members in groups.values():
        # Equal components side by side share their matrix products.
        members = sorted(members, key=lambda i: (specs[i].components, i))
        parts = _even(members, max(-(-len(members) // most), min(slots, len(members))))
        for part in parts:
            pieces = _fitted(part, fits)
            if len(pieces) > 1:
                sizes = ", ".join(str(len(piece)) for piece in pieces)
                notes.append(f"split a pack of {len(part)} runs into {sizes}: they would not fit the memory together")
            for piece in pieces:
                if len(piece) > 1:
                    for i in piece:
                        numbers[i] = number
                    number += 1
    return numbers, notes


def _key(spec: RunSpec) -> str:
    """Equal for specs that may share a batch."""
    settings = spec.to_dict()
    return json.dumps([settings[name] for name in (*SHARED, "target_modules")], sort_keys=True)


def _fitted(members: Sequence[int], fits: Callable[[Sequence[int]], bool]) -> list[Sequence[int]]:
    """``members`` whole if they fit, else halves of them that do; single ones as they are."""
    if len(members) == 1 or fits(members):
        return [members]
    return [piece for half in _even(members, 2) for piece in _fitted(half, fits)]


def _even(members: Sequence[int], count: int) -> list[Sequence[int]]:
    """``members`` in ``count`` contiguous parts whose sizes differ by at most one."""
    size, longer = divmod(len(members), count)
    ends = [(i + 1) * size + min(i + 1, longer) for i in range(count)]
    return [members[start:end] for start, end in zip([0, *ends], ends, strict=False)]
