"""Statistics over seeds, test examples and base models: scores in, intervals and verdicts out.

Usable alone: NumPy, SciPy and pandas, no torch, no store of runs.

    >>> from cdka.stats import crossed, holm, interval, paired, pareto, trend
    >>> print(interval([0.91, 0.88, 0.93, 0.90, 0.86]))
    0.896 (95 % interval 0.862 to 0.930, n = 5)
    >>> print(paired([0.91, 0.88, 0.93, 0.90], [0.89, 0.87, 0.90, 0.89]))
    +0.018 (95 % interval +0.002 to +0.033, p = 0.035, n = 4)

What an interval speaks of is what varies along its first axis: seeds (new seeds on the same examples and base model),
or base models (new base models). ``crossed`` lets the test examples vary too. An interval over seeds alone says nothing
about other test data or another base model, where differences are usually larger.
"""

from cdka.stats.intervals import Interval, crossed, interval, t_test
from cdka.stats.mcnemar import McNemar, mcnemar
from cdka.stats.multiple_comparisons import holm
from cdka.stats.paired import Paired, compare_pairs, paired, verdicts
from cdka.stats.pareto import pareto
from cdka.stats.power import seeds_needed, seeds_range
from cdka.stats.rank_correlation import RankCorrelation, rank_correlation
from cdka.stats.trend import Trend, trend

__all__ = [
    "Interval",
    "McNemar",
    "Paired",
    "RankCorrelation",
    "Trend",
    "compare_pairs",
    "crossed",
    "holm",
    "interval",
    "mcnemar",
    "paired",
    "pareto",
    "rank_correlation",
    "seeds_needed",
    "seeds_range",
    "t_test",
    "trend",
    "verdicts",
]
