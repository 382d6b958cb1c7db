"""Comparing runs: arms with intervals, paired verdicts, trends, fronts; figures and exports. Data in, data out.

``import cdka.compare`` needs neither torch, Plotly nor Streamlit; figures import Plotly when they are drawn.
"""

from cdka.compare.arms import arms, identify, seed_table
from cdka.compare.budget import budgets, diff, equal_budget
from cdka.compare.comparison import ALL_PAIRS, Comparison, compare
from cdka.compare.measure import Measure
from cdka.compare.report import document, methods_paragraph
from cdka.compare.source import Source, StoreSource
from cdka.stats import Interval, McNemar, compare_pairs, holm, mcnemar, pareto, seeds_needed, verdicts
from cdka.stats import interval as t_interval  # by this name in scripts that 0.1.0 exported
from cdka.stats.trend import trends

__all__ = [
    "ALL_PAIRS",
    "Comparison",
    "Interval",
    "McNemar",
    "Measure",
    "Source",
    "StoreSource",
    "arms",
    "budgets",
    "compare",
    "compare_pairs",
    "diff",
    "document",
    "equal_budget",
    "holm",
    "identify",
    "mcnemar",
    "methods_paragraph",
    "pareto",
    "seed_table",
    "seeds_needed",
    "t_interval",
    "trends",
    "verdicts",
]
