"""One-click studies of the paper's claims: a claim, a design that could refute it, runs, and a verdict. Torch-free."""

from cdka.claims.catalogue import GROUPS, STUDIES, find_study
from cdka.claims.judge import Finding, judge
from cdka.claims.plan import plan_study

__all__ = ["GROUPS", "STUDIES", "Finding", "find_study", "judge", "plan_study"]
