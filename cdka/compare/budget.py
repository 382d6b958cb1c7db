"""Methods at equal budget, and what differs between configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

TOLERANCE = 0.1


def equal_budget(
    arms: pd.DataFrame,
    selection: Mapping[str, float],
    budget: int,
    *,
    tolerance: float = TOLERANCE,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """The arms compared at one budget: per method the best on validation, and ``tried``, out of how many.

    Method is the ``family`` of an arm, so cdka 1,1,r counts as LoRA.

    Eligible are arms whose num_params lie within ``tolerance`` of ``budget``; full fine-tuning is always shown.
    ``selection`` maps arms to their mean validation value: choosing there and reporting the test metric keeps the
    method with more arms from winning by luck.
    """
    near = (arms["num_params"] - budget).abs() <= tolerance * budget
    eligible = arms[near | (arms["method"] == "full")].copy()
    eligible["chosen_by"] = eligible["arm"].map(dict(selection)).astype(float)
    eligible = eligible[eligible["n"] > 0].sort_values("chosen_by", ascending=not higher_is_better, na_position="last")
    tried = eligible.groupby("family").size()
    best = eligible.drop_duplicates("family").assign(tried=lambda rows: rows["family"].map(tried))
    return best.sort_values("num_params").reset_index(drop=True)


def budgets(arms: pd.DataFrame, *, tolerance: float = TOLERANCE) -> list[int]:
    """Parameter counts at which at least two methods can be compared, largest number of methods first."""
    adapters = arms[(arms["method"] != "full") & (arms["n"] > 0)]
    scored = {}
    for budget in sorted({int(count) for count in adapters["num_params"].dropna()}):
        near = adapters[(adapters["num_params"] - budget).abs() <= tolerance * budget]
        if near["family"].nunique() > 1:
            scored[budget] = (near["family"].nunique(), len(near))
    return sorted(scored, key=lambda budget: (scored[budget], -budget), reverse=True)


def diff(rows: Mapping[str, Mapping[str, Any]], ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Only the settings in which the given configurations differ: settings as rows, configurations as columns.

    Values are compared as JSON and shown as text, a missing one as an empty string.
    """
    keys = [key for key in dict.fromkeys(key for row in rows.values() for key in row) if key not in ignore]
    text = {name: {key: _text(row.get(key)) for key in keys} for name, row in rows.items()}
    differing = [key for key in keys if len({text[name][key] for name in rows}) > 1]
    return pd.DataFrame(
        {name: [text[name][key] for key in differing] for name in rows}, index=pd.Index(differing, name="setting")
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
