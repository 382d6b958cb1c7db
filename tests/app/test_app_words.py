"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from cdka import formatting


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (0, "0"),
        (812, "812"),
        (4864, "4,864"),
        (9999, "9,999"),
        (10_000, "10 k"),
        (48_640, "48.6 k"),
        (999_400, "999 k"),
        (999_999, "1 M"),
        (1_200_000, "1.2 M"),
        (6_738_415_616, "6.74 B"),
        (2e12, "2 T"),
    ],
)
def test_counts_are_short(n, said):
    assert formatting.count(n) == said


def test_what_is_missing_is_a_dash_never_zero():
    assert (
        formatting.count(None)
        == formatting.percent(math.nan)
        == formatting.duration(None)
        == formatting.ratio(math.nan)
        == "–"
    )


@pytest.mark.parametrize(
    ("mean", "half", "seeds", "said"),
    [
        (0.91234, 0.0061, 5, "0.912 ± 0.006 (5 seeds)"),
        (0.91234, 0.0123, 3, "0.912 ± 0.012 (3 seeds)"),
        (0.9, 0.0961, 3, "0.90 ± 0.10 (3 seeds)"),
        (55.3, 12.2, 4, "55 ± 12 (4 seeds)"),
        (0.9, None, 1, "0.900 (1 seed)"),
    ],
)
def test_an_estimate_has_no_more_digits_than_its_interval_supports(mean, half, seeds, said):
    low, high = (math.nan, math.nan) if half is None else (mean - half, mean + half)
    assert formatting.estimate(mean, low, high, seeds) == said


def test_durations_and_clocks():
    assert [formatting.duration(s) for s in (8.4, 125, 4800)] == ["8 s", "2 min 05 s", "1 h 20 min"]
    assert [formatting.clock(s) for s in (8, 125, 4800)] == ["0:08", "2:05", "1:20:00"]


def test_sizes_and_shares():
    assert (formatting.size(96_500), formatting.size(1.34e9), formatting.size(12)) == ("96.5 kB", "1.34 GB", "12 B")
    assert (formatting.percent(0.0041), formatting.percent(0.125), formatting.percent(1)) == (
        "0.41 %",
        "12.5 %",
        "100 %",
    )
