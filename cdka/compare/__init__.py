"""Comparing runs: arms with intervals, paired verdicts, trends, fronts; figures and exports. Data in, data out.

``import cdka.compare`` needs neither torch, Plotly nor Streamlit; figures import Plotly when they are drawn.
"""

from cdka.compare.arms import arms, identify, seed_table
from cdka.compare.budget import budgets, diff, equal_budget
from cdka.compare.comparison import ALL_PAIRS, Comparison, compare
from cdka.compare.measure import Measure
from cdka.compare.report import document, methods_paragraph
from cdka.compare.source import Source, StoreSource
from cdka.stats.intervals import Interval, holm, seeds_needed, t_interval
from cdka.stats.mcnemar import McNemar, mcnemar
from cdka.stats.paired import compare_pairs, verdicts
from cdka.stats.pareto import pareto
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
