"""Build the example: ``python -m tools.build_example SWEEP`` writes ``assets/compare-example.zip``.

The sweep: ``cdka sweep --model digits-vit --task digits-flip --grid "r1=1,2,4,8;r2=1,2,4,8;r=1" --seeds 5 --steps 120
--lr 2e-3 --alpha 8 --baselines lora:2,lora:4 --name "r1 against r2 on flipped digits"``, some minutes on two CPU cores:
the early regime of the studies. Every configuration has its mirror image (r1 and r2 exchanged) of the same parameters,
so that the map answers the paper's question, where parameters are best spent.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cdka.compare.bundle.unpack import FILE
from cdka.compare.bundle.write import write_bundle
from cdka.compare.comparison import compare
from cdka.compare.source import StoreSource
from cdka.paths import assets_dir
from cdka.runs.store import Store


def build(store: Store, sweep_id: str, target: Path) -> Path:
    """``target``, the bundle of a finished sweep with the adapters of its first seed alone, to keep it small."""
    source = StoreSource(store, [sweep_id], name=store.sweep(sweep_id).name)
    comparison = compare(source)
    first = comparison.frame[comparison.frame["seed"] == comparison.frame["seed"].min()]
    kept = first[first["method"] != "full"]["run_id"].to_list()
    return write_bundle(comparison, source, target, figures=False, adapters=kept)


if __name__ == "__main__":
    print(build(Store(), sys.argv[1], assets_dir() / FILE))
