"""The numbers of this version are those of 0.1.0, to the last digit."""

from __future__ import annotations

import json
import math

import pytest
import same_numbers

STORED = json.loads((same_numbers.DATA / "numbers-0.1.0.json").read_text(encoding="utf-8"))
CLOSE = 1e-3
"""On a processor or a torch other than the stored ones, sums are rounded otherwise, and training carries it on."""


def differences(stored, now, exact: bool, path: str = "") -> list[str]:
    """The places where two JSON documents differ; floats may by ``CLOSE`` unless ``exact``."""
    if isinstance(stored, dict) and isinstance(now, dict):
        keys = stored.keys() | now.keys()
        return [
            line
            for key in sorted(keys)
            for line in differences(stored.get(key, "nothing"), now.get(key, "nothing"), exact, f"{path}/{key}")
        ]
    if isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        pairs = enumerate(zip(stored, now, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, exact, f"{path}/{i}")]
    if not exact and isinstance(stored, float) and isinstance(now, float):
        return [] if math.isclose(stored, now, rel_tol=CLOSE, abs_tol=CLOSE) else [f"{path}: {stored!r}, now {now!r}"]
    return [] if stored == now else [f"{path}: {stored!r}, now {now!r}"]


def compare(parts) -> None:
    now = same_numbers.numbers(parts)
    exact = now["machine"] == STORED["machine"]
    for part in parts:
        name = part.__name__
        found = differences(STORED[name], now[name], exact)
        if not exact and name == "options":  # a digest of floats shows a single last digit
            found = [line for line in found if not line.partition(":")[0].endswith("/alignment")]
        assert not found, "\n".join([f"{name}: {len(found)} numbers differ", *found[:10]])


def test_a_difference_in_the_last_digit_is_found():
    stored = {"losses": [0.1, 0.2], "arms": {"n": 3}}
    assert not differences(stored, {"losses": [0.1, 0.2], "arms": {"n": 3}}, exact=True)
    assert differences(stored, {"losses": [0.1, math.nextafter(0.2, 1)], "arms": {"n": 3}}, exact=True)
    assert differences(stored, {"losses": [0.1, 0.2], "arms": {}}, exact=True) == ["/arms/n: 3, now 'nothing'"]
    assert differences(stored, {"losses": [0.1, 0.203], "arms": {"n": 3}}, exact=False)


def test_a_few_steps_counts_and_options_are_those_of_0_1_0():
    compare((same_numbers.num_params, same_numbers.options, same_numbers.some_steps))


def test_memory_comparisons_and_studies_are_those_of_0_1_0():
    compare((same_numbers.memory, same_numbers.comparisons, same_numbers.studies))


@pytest.mark.slow
def test_training_and_measured_alignment_are_those_of_0_1_0():
    compare(same_numbers.SLOW)
