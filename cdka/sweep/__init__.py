"""Sweeps: from a grid or a list of arms to runs, and from runs to packs. Pure and torch-free."""

from cdka.sweep.plan import Plan, plan
from cdka.sweep.planfile import read_plan

__all__ = ["Plan", "plan", "read_plan"]
