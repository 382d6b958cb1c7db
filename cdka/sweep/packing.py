"""Which runs of a sweep train together over one frozen base. Pure: numbers in, pack numbers out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from cdka.finetune.spec import SHARED, RunSpec

MOST = 16
"""More runs than this in one pack gain nothing further, and all of them fall with the process."""


def pack(
    specs: Sequence[RunSpec],
    *,
    slots: int = 1,
    most: int = MOST,
    fits: Callable[[Sequence[RunSpec]], bool] = lambda specs: True,
) -> tuple[list[int | None], list[str]]:
    """A pack number per spec (None: trains alone) and notes on what was split, and why.

    Only CDKA adapters share a batch (PEFT's others refuse mixed batches while training), and only where the settings
    in ``finetune.spec.SHARED`` agree. Packs are of even size, and at least ``slots`` of them where there is work
    for as many. ``fits`` says whether a pack is expected to fit the memory; one that does not is halved.
    """
    groups: dict[str, list[int]] = {}
    for i, spec in enumerate(specs):
        if spec.method == "cdka" and spec.init_weights != "gradient" and spec.num_processes == 1:
            groups.setdefault(_key(spec), []).append(i)
    numbers: list[int | None] = [None] * len(specs)
    notes: list[str] = []
    number = 0
    for members in groups.values():
        # Equal components side by side share their matrix products.
        members = sorted(members, key=lambda i: (specs[i].components, i))
        size, split = len(members), 0
        while size > 1 and not fits([specs[i] for i in members[:size]]):
            size, split = (size + 1) // 2, size
        if split:
            notes.append(f"split a pack of {split} runs into packs of {size}: they would not fit the memory together")
        count = max(-(-len(members) // min(size, most)), min(slots, len(members)))
        for part in _even(members, count):
            if len(part) > 1:
                for i in part:
                    numbers[i] = number
                number += 1
    return numbers, notes


def _key(spec: RunSpec) -> str:
    """Equal for specs that may share a batch."""
    settings = spec.to_dict()
    return json.dumps([settings[name] for name in (*SHARED, "target_modules")], sort_keys=True)


def _even(members: Sequence[int], count: int) -> list[Sequence[int]]:
    """``members`` in ``count`` contiguous parts whose sizes differ by at most one."""
    size, longer = divmod(len(members), count)
    ends = [(i + 1) * size + min(i + 1, longer) for i in range(count)]
    return [members[start:end] for start, end in zip([0, *ends], ends, strict=False)]
