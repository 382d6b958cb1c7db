"""Reading answers: the numbers that people write, options, and nothing where there is nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdka.tasks.answers import final_number, read_number, read_option, read_text
from cdka.tasks.scores import Answers, binary_f1, matthews

NUMBERS = [
    ("1,234", "1234"),
    ("1,234,567.50", "2469135/2"),
    ("$5.00", "5"),
    ("$ 1,000", "1000"),
    ("-3", "-3"),
    ("\u22123", "-3"),
    ("+7", "7"),
    ("3/4", "3/4"),
    ("6/8", "3/4"),
    ("-6/4", "-3/2"),
    ("1 1/2", "3/2"),
    ("-1 1/2", "-3/2"),
    (".5", "1/2"),
    ("0.50", "1/2"),
    ("42.", "42"),
    ("42 apples", "42"),
    ("50%", "50"),
    ("\\frac{3}{4}", "3/4"),
    ("\\dfrac{10}{4}", "5/2"),
    ("\\$18", "18"),
    ("2e3", "2000"),
    ("**12**", "12"),
    ("€7,50", None),
    ("1,23", None),
    ("5/0", None),
    ("1 1/0", None),
    ("", None),
    ("none", None),
    ("-", None),
    ("the 3", None),
    ("$", None),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_a_number_is_read_or_there_is_none(text, number):
    assert read_number(text) == number


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_do_not_change_a_number(value):
    assert read_number(f"{value:,}") == str(value) == read_number(f"${value}".replace("$-", "-$"))


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_come_in_lowest_terms(above, below):
    assert read_number(f"{above}/{below}") == str(Fraction(above, below))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She buys 3 and 4 more.\n#### 7", "7"),
        ("So 16 - 3 = 13.\nThe answer is: $1,234.00", "1234"),
        ("The answer is 5. No: the answer is 6.", "6"),
        ("thus \\boxed{\\frac{1}{2}}", "1/2"),
        ("The answer is $\\boxed{12}$.", "12"),
        ("Answer: -3", "-3"),
        ("1,234", "1234"),
        ("$5.00", "5"),
        ("She has 5 apples.", None),
        ("The answer is unknown.", None),
        ("#### ", None),
        ("", None),
    ],
)
def test_only_a_declared_number_is_an_answer(text, number):
    assert final_number(text) == number


def test_an_unparsed_answer_is_wrong_and_counted_even_where_the_reference_is_missing():
    answers = Answers(["1", None, "3"], ["1", None, None])
    assert answers.unparsed == 2
    assert answers.accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", "B"),
        (" b.", "B"),
        ("(C)", "C"),
        ("The answer is D.", "D"),
        ("B or C", None),
        ("", None),
        ("F", None),
        ("A. iron\nbecause", "A"),
        ("I think it is B", "B"),
    ],
)
def test_an_option_is_named_once_or_not_at_all(text, option):
    assert read_option(text, ["A", "B", "C", "D"]) == option


def test_label_words_that_hold_each_other_are_told_apart():
    words = ["entailment", "not_entailment"]
    assert read_option("not_entailment", words) == "not_entailment"
    assert read_option("entailment", words) == "entailment"
    assert read_option("duplicate", ["not_duplicate", "duplicate"]) == "duplicate"


def test_text_is_compared_with_single_spaces():
    assert read_text("  a\n b ") == "a b"
    assert read_text(" \n ") is None


def test_further_scores_equal_their_definitions():
    label = [1, 1, 1, 0, 0, 0, 0, 1]
    predicted = [1, 0, 1, 0, 1, 0, None, None]
    hit, false_alarm, missed, rejected = 2, 2, 2, 2  # an unparsed answer counts as the wrong label
    assert binary_f1(Answers(label, predicted))["f1"] == 2 * hit / (2 * hit + false_alarm + missed)
    assert matthews(Answers(label, predicted))["matthews"] == (hit * rejected - false_alarm * missed) / 16
    assert matthews(Answers([1, 1], [1, 1]))["matthews"] == 0.0
    assert binary_f1(Answers([0, 0], [0, 0]))["f1"] == 0.0
