"""The arms of each study, fitted to the dimensions of the model at hand. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cdka.components import PAPER_DEFAULT, SCALING_RULES, Components
from cdka.cost.adapter import full_params, num_params
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.solver import Option, solve

RANGE = (4, 8, 16, 32, 64)
"""The levels of r1 and r2 that our studies try: a choice of ours, not the paper's range."""
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


def vary_r2_beside_r1(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """r2 from 4 to 64 at r1 = 4, and its control of equal cost: the same levels of r1 at r2 = 4."""
    levels = [arm["components"] for arm in vary_r2(layers, base_params)]
    control = [Components(c.r2, c.r1, c.r) for c in levels if all(not _cannot(layer, c) for layer in layers)]
    return [{"components": one} for one in dict.fromkeys([*levels, *control])]


def _cannot(layer: LinearShape, components: Components) -> bool:
    """True where r1 and r2 of ``components``, exchanged, do not divide a layer."""
    turned = Components(components.r2, components.r1, components.r)
    return bool(turned.problems(layer.out_features, layer.in_features))


def vary_r(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """r from 1 to 8 at (2, 4)."""
    return [{"components": Components(2, 4, r)} for r in (1, 2, 4, 8)]


def _near(layers: Layers, budget: int) -> list[Option]:
    """The options other than LoRA's that use nearly all of a budget: best aligned first, of equals the highest rank."""
    options = [o for o in solve(list(layers), budget) if o.num_params >= NEAR * budget and not o.is_lora]
    if not options:
        raise CdkaError(f"no option comes within {1 - NEAR:.0%} of {budget:,} parameters. Choose other target modules.")
    return sorted(options, key=lambda o: (-round(o.alignment, 6), -o.rank_bound, o.r1, o.r2, o.r))


def pairs(layers: Layers) -> list[tuple[Components, Components]]:
    """At each share of the adapted weights, the best aligned option with r2 > r1, and the same with the two exchanged.

    Exchanging r1 and r2 leaves r and, where a model's matrices are square or come both ways, the parameters and the
    bound on the rank as they are. The alignment changes, and with it the factor 1/sqrt(r r2) and the scale of A.
    """
    found = []
    for share in SHARES:
        near = _near(layers, int(share * full_params(layers)))
        known = {o.components for o in near}
        chosen = next(
            ((o.components, turned) for o in near if o.r2 > o.r1 and (turned := Components(o.r2, o.r1, o.r)) in known),
            None,
        )
        if chosen is not None and chosen not in found:
            found.append(chosen)
    if not found:
        raise CdkaError(
            "no option of this model can exchange r1 and r2 at equal parameters. Choose other target modules."
        )
    return found


def budget_pairs(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """The arms of ``pairs``, pair by pair."""
    return [{"components": components} for pair in pairs(layers) for components in pair]


def _lora_params(layers: Layers, rank: int) -> int:
    return num_params(layers, Components(1, 1, rank))


def lora_8(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """The best aligned option at the parameters of LoRA rank 8, and the paper's default if it costs about as much."""
    budget = _lora_params(layers, 8)
    best = _near(layers, budget)[0].components
    arms = [{"components": best}]
    fits = all(not PAPER_DEFAULT.problems(s.out_features, s.in_features) for s in layers)
    if fits and NEAR * budget <= num_params(layers, PAPER_DEFAULT) <= budget and best != PAPER_DEFAULT:
        arms.append({"components": PAPER_DEFAULT})
    return arms


def an_eighth(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """The best aligned option for an eighth of the parameters of LoRA rank 8 that is not LoRA itself."""
    return [{"components": _near(layers, _lora_params(layers, 8) // 8)[0].components}]


def scaling_rules(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """Large components under every scaling rule; small ones with the paper's and with none, at r = 1 also 1/r."""
    r2 = max(_levels(layers, "in_features", "r2"))
    large = [{"components": Components(4, r2, 4), "scaling_rule": rule} for rule in SCALING_RULES]
    return large + [{"components": Components(4, 4, 1), "scaling_rule": rule} for rule in ("sqrt_r_r2", "none")]


def spread(layers: Layers, base_params: int) -> list[dict[str, Any]]:
    """Twelve configurations whose predicted alignments differ by up to a factor of eight."""
    for r1 in (1, 4, 16):
        for r2 in (2, 8):
            for layer in layers:
                Components(r1, r2, 1).check(layer.out_features, layer.in_features, layer.name)
    return [{"components": Components(r1, r2, r)} for r1 in (1, 4, 16) for r2 in (2, 8) for r in (1, 2)]
