"""McNemar's exact test and the examples behind it: two runs, one set of examples."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from scipy import stats

from cdka.errors import CdkaError


@dataclass(frozen=True)
class McNemar:
    """Counts over the shared examples and the exact two-sided p that A and B err equally often.

    ``unparsed_a`` and ``unparsed_b`` count answers that could not be read; they are not right, and they are shown.
    """

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    unparsed_a: int
    unparsed_b: int
    p: float

    @property
    def examples(self) -> int:
        """The number of examples that both runs answered."""
        return self.both_right + self.only_a + self.only_b + self.both_wrong


def paired_answers(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """One row per shared example: example, label, predicted_a, predicted_b, right_a, right_b.

    Raises CdkaError where the two runs disagree about a label: then they were not tested on the same data.
    """
    both = a.merge(b, on="example", suffixes=("_a", "_b"), validate="one_to_one")
    clash = both[both["label_a"] != both["label_b"]]
    if len(clash):
        row = clash.iloc[0]
        raise CdkaError(
            f"both runs must be tested on the same examples: example {row['example']} has label {row['label_a']!r} "
            f"in one and {row['label_b']!r} in the other. Compare runs of one task."
        )
    both = both.rename(columns={"label_a": "label"}).drop(columns="label_b")
    for side in "ab":
        right = both[f"predicted_{side}"] == both["label"]
        both[f"right_{side}"] = right.fillna(False).astype(bool)
    return both


def mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> McNemar:
    """The exact McNemar test of two ``Store.predictions`` frames, joined by example."""
    both = paired_answers(a, b)
    right_a, right_b = both["right_a"], both["right_b"]
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(
        both_right=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((~right_a & ~right_b).sum()),
        unparsed_a=int(both["predicted_a"].isna().sum()),
        unparsed_b=int(both["predicted_b"].isna().sum()),
        p=float(p),
    )
