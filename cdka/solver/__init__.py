"""From shapes and a budget to every component configuration that fits, explained. Free of torch."""

from __future__ import annotations

from cdka.solver.default_option import Advice, advise, default
from cdka.solver.explain import why_this
from cdka.solver.feasible import Obstacle, check_fits, limiting_modules, nearest_values, obstacles
from cdka.solver.guidelines import PRESETS, Preset
from cdka.solver.objectives import OBJECTIVES, PARETO, Objective, parse_weights
from cdka.solver.option import Option
from cdka.solver.patterns import MEASURES, Pattern, best_uniform, pattern, spend_residual
from cdka.solver.resources import Setting, resources, usual_setting
from cdka.solver.search import Solution, as_shapes, cheapest, evaluate, explore, solve

__all__ = [
    "MEASURES",
    "OBJECTIVES",
    "PARETO",
    "PRESETS",
    "Advice",
    "Objective",
    "Obstacle",
    "Option",
    "Pattern",
    "Preset",
    "Setting",
    "Solution",
    "advise",
    "as_shapes",
    "best_uniform",
    "cheapest",
    "check_fits",
    "default",
    "evaluate",
    "explore",
    "limiting_modules",
    "nearest_values",
    "obstacles",
    "parse_weights",
    "pattern",
    "resources",
    "solve",
    "spend_residual",
    "usual_setting",
    "why_this",
]
