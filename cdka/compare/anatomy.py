"""One adapter taken apart, whatever its kind: its layers as factors, and what other (r1, r2, r) would keep of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from cdka.adapter_files import AdapterFile, open_adapter
from cdka.components import Components, divisors
from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.theory.factors import Factors, capture

MAX_CAPTURE_WEIGHTS = 4_000_000
"""Layers with more weights than this are left out of the capture map: it takes a decomposition for every (r1, r2)."""
CAPTURE_VALUES = (1, 2, 4, 8, 16, 32)
"""The r1 and r2 of the capture map, as far as they divide the layer."""


@dataclass(frozen=True, eq=False)
class LayerFactors(Factors):
    """The factors of one adapted layer with its name and method; LoRA of rank r is the case r1 = r2 = 1."""

    layer: str = ""
    method: str = "cdka"

    @cached_property
    def spectrum(self) -> np.ndarray:
        """The singular values of delta W, largest first."""
        return self.singular_values()


def read_adapter(directory: str | os.PathLike[str]) -> list[LayerFactors]:
    """The adapted layers of an adapter of any kind, in the order of their names; see ``open_adapter``."""
    return layers_of(open_adapter(directory))


def layers_of(adapter: AdapterFile) -> list[LayerFactors]:
    """The adapted layers of an opened adapter."""
    return [
        LayerFactors(m.factors.A, m.factors.B, m.factors.scaling, layer=m.name, method=adapter.method)
        for m in adapter.modules
    ]


def placed(layers: Sequence[LayerFactors]) -> pd.DataFrame:
    """Counts of layers by (r1, r2), with their r and parameters: r1, r2, r, layers, num_params."""
    kinds: Counter[Components] = Counter(f.components for f in layers)
    counts = {kind: sum(f.num_params for f in layers if f.components == kind) for kind in kinds}
    rows = [(*kind.as_tuple(), kinds[kind], counts[kind]) for kind in sorted(kinds)]
    return pd.DataFrame(rows, columns=["r1", "r2", "r", "layers", "num_params"])


def capture_map(factors: LayerFactors) -> pd.DataFrame:
    """The share of a layer's delta W that the nearest (r1, r2, r) of equal cost keeps: r1, r2, r, num_params, kept.

    ``kept`` is the cosine between delta W and its nearest, for the largest r that costs no more than the adapter itself
    (at least 1). It says what could be kept of this delta W, not what training such components would reach: on
    ``digits-flip`` a full fine-tune of ``digits-vit`` at a rate of 1e-3 scores 0.970, its nearest (2, 8, 4) 0.630, and
    (2, 8, 4) trained itself by the recipe 0.963 (test accuracy, seed 0 alone; ours). Raises CdkaError for layers above
    ``MAX_CAPTURE_WEIGHTS`` weights.
    """
    out_features, in_features = factors.shape
    if out_features * in_features > MAX_CAPTURE_WEIGHTS:
        raise CdkaError(
            f"the map of what each choice keeps is for layers of up to {MAX_CAPTURE_WEIGHTS:,} weights: "
            f"{factors.layer!r} "
            f"has {out_features * in_features:,}. Choose a smaller layer."
        )
    rows = []
    for r1 in (v for v in CAPTURE_VALUES if v in divisors(out_features)):
        for r2 in (v for v in CAPTURE_VALUES if v in divisors(in_features)):
            kept = capture(factors, r1, r2)
            r = min(
                max(1, factors.num_params // Components(r1, r2, 1).num_params(out_features, in_features)), len(kept)
            )
            num_params = Components(r1, r2, r).num_params(out_features, in_features)
            rows.append((r1, r2, r, num_params, float(kept[r - 1])))
    return pd.DataFrame(rows, columns=["r1", "r2", "r", "num_params", "kept"])


def rearranged_spectra(factors: LayerFactors) -> dict[tuple[int, int], np.ndarray]:
    """The singular values of R(delta W) at the layer's own (r1, r2), at (1, 1) and at the paper's (2, 8), where they
    fit.

    At its own (r1, r2) an adapter has r of them at most; elsewhere many, which is why another (r1, r2) keeps less.
    """
    own = (factors.components.r1, factors.components.r2)
    found = {}
    for r1, r2 in dict.fromkeys([own, (1, 1), (2, 8)]):
        if factors.shape[0] % r1 == 0 and factors.shape[1] % r2 == 0:
            energy = np.diff(np.concatenate([[0.0], capture(factors, r1, r2) ** 2]))
            found[r1, r2] = factors.norm() * np.sqrt(np.maximum(energy, 0.0))
    return found


def title_of(adapter: AdapterFile, path: str | os.PathLike[str]) -> str:
    """An opened adapter in one line."""
    return (
        f"{Path(path).name}: {adapter.kind}, {plural(len(adapter.modules), 'module')}, {adapter.num_params:,} "
        f"parameters as CDKA, exact; LoRA rank up to {adapter.rank}"
    )
