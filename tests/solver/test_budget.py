from __future__ import annotations

import pytest

from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.solver.budget import Budget

LINEARS = select(find_model("llama-2-7b"))
BASE = 6_738_415_616


@pytest.mark.parametrize(
    ("said", "params"),
    [
        ("2500000", 2_500_000),
        ("2_500_000", 2_500_000),
        ("2,500,000", 2_500_000),
        ("2.5M", 2_500_000),
        ("2.5m", 2_500_000),
        ("10k", 10_000),
        ("1e6", 1_000_000),
        ("0.1B", 100_000_000),
        (2_500_000, 2_500_000),
        ("0.5%", 33_692_078),
        ("lora:8", 19_988_480),
        ("lora: 8", 19_988_480),
        (Budget("lora", 1), 2_498_560),
    ],
)
def test_budgets_as_people_say_them(said, params):
    assert Budget.parse(said).params(BASE, LINEARS) == params


@pytest.mark.parametrize(("said", "size"), [("40MB", 40_000_000), ("40MiB", 41_943_040), ("40000 kB", 40_000_000)])
def test_a_budget_in_bytes_leaves_room_for_the_header(said, size):
    params = Budget.parse(said).params(BASE, LINEARS)
    assert size - 150_000 < 4 * params < size


@pytest.mark.parametrize(
    "said", ["0", 0, "-5", -5, "-1%", "0%", "lora:0", "lora:-3", "inf", float("inf"), float("nan"), "1e300"]
)
def test_budgets_that_are_not_positive_and_finite(said):
    with pytest.raises(CdkaError, match=r"2\.5M"):
        Budget.parse(said)


@pytest.mark.parametrize("said", ["", "many", "5 apples", "lora", "lora:", "lora:x", "%", "1..5M", None, True, "4M B"])
def test_budgets_that_cannot_be_read(said):
    with pytest.raises(CdkaError, match="lora"):
        Budget.parse(said)


def test_half_a_rank_is_refused():
    with pytest.raises(CdkaError, match="integer rank"):
        Budget.parse("lora:2.5")


@pytest.mark.parametrize("said", ["0.5%", "lora:8", "12%"])
def test_what_is_printed_can_be_read_again(said):
    assert str(Budget.parse(str(Budget.parse(said)))) == said
