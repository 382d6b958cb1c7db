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


def with_bounds(part: str, stored):
    """Intervals of accuracies stay within 0 and 1 since, and equal scores have none; the rest is as it was."""
    for name, claim in stored.items() if part == "comparisons" else ():
        share = not any(word in name for word in ("loss", "seconds"))
        for row in (*claim["arms"], *claim["verdicts"]):
            row.pop("arm", None)  # a digest of the settings, the name of the model among them
            if row["ci_low"] is not None and row["ci_low"] == row["ci_high"]:
                row["ci_low"] = row["ci_high"] = None
            elif row["ci_low"] is not None and share and "mean" in row:
                row["ci_low"], row["ci_high"] = max(row["ci_low"], 0.0), min(row["ci_high"], 1.0)
    if part == "memory":  # a piece of the logits becomes its own gradient in place since
        stored = {name: {k: v for k, v in row.items() if k != "logits_bytes"} for name, row in stored.items()}
        for name, row in stored.items():
            row["total_bytes"] -= STORED["memory"][name]["logits_bytes"]
    if part == "alignments":
        stored = [{key: value for key, value in row.items() if key != "expected_step"} for row in stored]
    return stored


def compare(parts) -> None:
    now = same_numbers.numbers(parts)
    exact = now["machine"] == STORED["machine"]
    for part in parts:
        name = part.__name__
        if name == "memory":
            for row in now[name].values():
                row["total_bytes"] -= row.pop("logits_bytes")
        if name == "studies":  # reports that ship since are no numbers of 0.1.0
            now[name] = {key: value for key, value in now[name].items() if key in STORED[name]}
        found = differences(with_bounds(name, STORED[name]), now[name], exact)
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
