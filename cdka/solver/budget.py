"""Budgets as people write them, turned into a number of adapter parameters. Free of torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cdka.cost.adapter import ADAPTER_BYTES_PER_PARAM, file_overhead_bytes
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape

_COUNT = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "bytes": 1}
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(%|[a-z]*)", re.I)
HOW = "Write 2500000, 2.5M, 0.5%, lora:8 or 4MB."
MAX_PARAMS = 10**15
"""No budget beyond this: larger than any model, and safe in 64-bit arithmetic."""


def _without_separators(written: str) -> str:
    """``written`` without thousands separators; one comma that cannot part thousands is a decimal comma (``2,5M``)."""
    text = written.strip()
    if re.fullmatch(r"[+-]?\d+,\d{1,2}\s*(%|[a-z]*)", text, re.I):
        return text.replace(",", ".")
    return re.sub(r"(?<=\d)[,_'](?=\d{3}(?:\D|$))", "", text)


@dataclass(frozen=True)
class Budget:
    """The most parameters that adapters may have over all target modules, as it was written.

    ``kind`` is ``"count"``, ``"share"`` (of the base model's parameters), ``"lora"`` (what LoRA of rank ``value``
    costs on the same modules) or ``"bytes"`` (of the saved adapter file). Raises CdkaError unless positive.
    """

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in ("count", "share", "lora", "bytes"):
            raise CdkaError(f"a budget is a count, a share, lora or bytes: got {self.kind!r}. {HOW}")
        if not 0 < self.value <= MAX_PARAMS:
            given = f"{100 * self.value:g}%" if self.kind == "share" else f"{self.value:g}"
            raise CdkaError(f"a budget must be positive and finite: got {given}. {HOW}")
        if self.kind == "lora" and self.value != int(self.value):
            raise CdkaError(f"lora:R needs a positive integer rank: got {self.value:g}. Example: lora:8.")

    @classmethod
    def parse(cls, given: str | int | float | Budget) -> Budget:
        """A budget from ``2500000``, ``"2.5M"``, ``"0.5%"``, ``"lora:8"``, ``"4MB"`` (or ``"4MiB"``, ``"512kB"``)."""
        if isinstance(given, Budget):
            return given
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise CdkaError(f"a budget is a number or a text: got {given!r}. {HOW}")
        if not isinstance(given, str):
            if not math.isfinite(given):
                raise CdkaError(f"a budget must be positive and finite: got {given}. {HOW}")
            return cls("count", given)
        text = _without_separators(given)
        sign, text = (-1 if text.startswith("-") else 1), text.lstrip("+-")
        lora = re.fullmatch(r"lora\s*[:=]\s*(-?[0-9.]+)", text, re.I)
        if lora and lora[1].count(".") <= 1 and lora[1].strip("-."):
            return cls("lora", float(lora[1]))
        number = _NUMBER.fullmatch(text)
        if number:
            value, unit = sign * float(number[1]), number[2].lower()
            if unit == "%":
                return cls("share", value / 100)
            if unit in _BYTES:
                return cls("bytes", value * _BYTES[unit])
            if unit in _COUNT:
                return cls("count", value * _COUNT[unit])
        raise CdkaError(f"a budget must be a number with k, M, G, %, kB, MB, GB, or lora:R: got {given!r}. {HOW}")

    def params(self, base_params: int, linears: Sequence[LinearShape]) -> int:
        """The budget in adapter parameters, rounded down. Bytes count the file's header too."""
        if self.kind == "share":
            return int(self.value * base_params)
        if self.kind == "lora":
            return int(self.value) * sum(s.count * (s.in_features + s.out_features) for s in linears)
        if self.kind == "bytes":
            return max(0, int(self.value - file_overhead_bytes(linears)) // ADAPTER_BYTES_PER_PARAM)
        return int(self.value)

    def __str__(self) -> str:
        if self.kind == "share":
            return f"{100 * self.value:g}%"
        if self.kind == "lora":
            return f"lora:{int(self.value)}"
        return f"{int(self.value):,}" + (" bytes" if self.kind == "bytes" else "")
