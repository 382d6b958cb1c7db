"""The arms of each study, fitted to the dimensions of the model at hand. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cdka.components import PAPER_DEFAULT, SCALING_RULES, Components
from cdka.cost import full_params, num_params
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.solver import Option, solve

RANGE = (4, 8, 16, 32, 64)
"""The paper's range for r1 and r2."""
SHARES = (0.05, 0.10, 0.15, 0.20, 0.25)
NEAR = 0.8
"""Of the options within a budget, those that use at least this share of it count as equal to it."""

Layers = Sequence[LinearShape]


def _common(layers: Layers, axis: str) -> int:
    return math.gcd(*(getattr(layer, axis) for layer in layers))


def _levels(layers: Layers, axis: str, name: str) -> list[int]:
    common = _common(layers, axis)
    found = [level for level in RANGE if common % level == 0]
    if len(found) < 3:
        raise CdkaError(
            f"this study needs three levels of {name} from 4 to 64: only {found} divide every {axis}. "
            "Choose other target modules or another model."
        )
    return found


def vary_r1(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """r1 from 4 to 64 at r2 = 4, r = 1."""
    return [{"components": Components(r1, 4, 1)} for r1 in _levels(layers, "out_features", "r1")]


def vary_r2(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """r2 from 4 to 64 at r1 = 4, r = 1."""
    return [{"components": Components(4, r2, 1)} for r2 in _levels(layers, "in_features", "r2")]


def vary_r(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """r from 1 to 8 at (2, 4)."""
    return [{"components": Components(2, 4, r)} for r in (1, 2, 4, 8)]


def _near(layers: Layers, budget: int) -> list[Option]:
    """The options that use nearly all of a budget, best aligned first."""
    options = [o for o in solve(list(layers), budget) if o.num_params >= NEAR * budget]
    if not options:
        raise CdkaError(f"no option comes within {1 - NEAR:.0%} of {budget:,} parameters. Choose other target modules.")
    return sorted(options, key=lambda o: (-o.alignment, o.r1, o.r2, o.r))


def budget_pairs(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """At each share of the adapted weights, the best and the worst aligned option that use it."""
    arms = []
    for share in SHARES:
        options = _near(layers, int(share * full_params(layers)))
        if options[0].alignment > options[-1].alignment:
            arms += [{"components": options[0].components}, {"components": options[-1].components}]
    return arms


def _lora_params(layers: Layers, rank: int) -> int:
    return num_params(layers, Components(1, 1, rank))


def lora_8(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """The best aligned option at the parameters of LoRA rank 8 that is not LoRA, and the paper's default if it fits."""
    budget = _lora_params(layers, 8)
    best = next(o for o in _near(layers, budget) if (o.r1, o.r2) != (1, 1))
    arms = [{"components": best.components}]
    fits = all(not PAPER_DEFAULT.problems(s.out_features, s.in_features) for s in layers)
    if fits and NEAR * budget <= num_params(layers, PAPER_DEFAULT) <= budget and best.components != PAPER_DEFAULT:
        arms.append({"components": PAPER_DEFAULT})
    return arms


def an_eighth(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """The best aligned option for an eighth of the parameters of LoRA rank 8."""
    return [{"components": _near(layers, _lora_params(layers, 8) // 8)[0].components}]


def scaling_rules(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """Large components under every scaling rule."""
    r2 = max(_levels(layers, "in_features", "r2"))
    return [{"components": Components(4, r2, 4), "scaling_rule": rule} for rule in SCALING_RULES]


def spread(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """Twelve configurations whose predicted alignments differ by up to a factor of eight."""
    for r1 in (1, 4, 16):
        for r2 in (2, 8):
            for layer in layers:
                Components(r1, r2, 1).check(layer.out_features, layer.in_features, layer.name)
    return [{"components": Components(r1, r2, r)} for r1 in (1, 4, 16) for r2 in (2, 8) for r in (1, 2)]
