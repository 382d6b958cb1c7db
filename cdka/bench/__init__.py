"""Benchmarks, one module each, run by ``cdka bench NAME``.

A bench is a module ``cdka/bench/NAME.py`` (hyphens as underscores) with ``run(args) -> dict``, which measures and
returns a JSON-able document, and ``show(document)``, which prints it as a table. ``args`` has ``quick`` and ``full``
(bool; neither: what fits into about three minutes), ``rounds`` (int or None for the bench's own number) and ``device``
("auto", "cpu", "cuda:0"). ``timing`` and ``tracing`` hold what they share.
"""

from __future__ import annotations

BENCHES = {
    "steps": "whole training steps by method, interleaved: digits-vit, math-lm, an encoder, and the model named",
    "layer": "one adapted linear layer: time, kernels, copies and memory against frozen, LoRA and LoKr",
    "pack": "several runs in one process against one after the other",
    "solver": "the component solver",
    "app": "what the Studio's user waits for: start of a run, poll of live runs, queue of a sweep",
    "peft-comparison": "result files in the format of PEFT's method_comparison, with forgetting",
    "train": "whole training steps: tokens/s and memory of CDKA, LoRA, LoKr, full and a sweep of 8, in Markdown",
}
