"""Statistics over seeds, usable alone: scores in, intervals and verdicts out. NumPy, SciPy and pandas only."""
