"""One option of the solver: a configuration and every number that speaks for or against it."""

from __future__ import annotations

from typing import Any, NamedTuple

from cdka.components import Components


class _Row(NamedTuple):
    r1: int
    r2: int
    r: int
    num_params: int
    budget_used: float
    residual: int
    rank_bound: int
    alignment: float
    flops_per_token: int
    flops_overhead: float
    export_rank: int
    adapter_bytes: int
    optimizer_bytes: int
    scaling: float
    pareto: bool
    score: float | None
    presets: tuple[str, ...]


class Option(_Row):
    """A feasible (r1, r2, r) with its exact cost.

    ``num_params``: trainable parameters over all target modules; ``budget_used`` and ``residual``: share of the budget
    spent, and parameters left. ``rank_bound``: mean over the modules of the bound on the rank of delta W, rounded
    down. ``alignment``: expected cosine between the first step and full fine-tuning's over all modules, the square
    root of the mean of squares with every module weighing the same (ours; cos^2 adds up by gradient energy).
    ``flops_per_token``: extra forward FLOPs; ``flops_overhead``: the same as a share of the base model's forward pass.
    ``export_rank``: the largest rank of the exact LoRA export on any module, r r1 r2 or the module's smaller side: what
    a server must be started for.
    ``adapter_bytes``: the saved file, header included, at most; ``optimizer_bytes``: AdamW's two moments.
    ``scaling``: alpha / sqrt(r r2). ``pareto``: no other option is at least as good in parameters, alignment and rank
    and better in one. ``score``: the weighted objectives where weights were given. ``presets``: which guidelines pick
    this option. A plain tuple underneath, because a large budget has tens of thousands of options.
    """

    __slots__ = ()

    @property
    def components(self) -> Components:
        """(r1, r2, r) as Components."""
        return Components(self.r1, self.r2, self.r)

    @property
    def is_lora(self) -> bool:
        """True for LoRA of rank r with rsLoRA scaling."""
        return self.r1 == self.r2 == 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and tables."""
        return {**self._asdict(), "presets": list(self.presets)}
