"""The mathematics of CDKA in NumPy, small and fast enough to play with. Free of torch."""

from __future__ import annotations

from cdka.theory.alignment import (
    ADAM_SHARE,
    AlignmentReport,
    alignment_curve,
    best_capture,
    capture_curve,
    combine,
    expected_step_alignment,
    measured_alignment,
    predicted_alignment,
    report,
)
from cdka.theory.rearrange import delta_weight, kaiming_components, rearrange, unrearrange
from cdka.theory.spectrum import (
    SPECTRA,
    effective_rank,
    numerical_rank,
    simulated_gradient,
    singular_values,
    spectrum_values,
    stable_rank,
)
from cdka.theory.stability import EXPERIMENT, FirstStep, factored_forward, first_step_rms, stability_experiment

__all__ = [
    "ADAM_SHARE",
    "EXPERIMENT",
    "SPECTRA",
    "AlignmentReport",
    "FirstStep",
    "alignment_curve",
    "best_capture",
    "capture_curve",
    "combine",
    "delta_weight",
    "effective_rank",
    "expected_step_alignment",
    "factored_forward",
    "first_step_rms",
    "kaiming_components",
    "measured_alignment",
    "numerical_rank",
    "predicted_alignment",
    "rearrange",
    "report",
    "simulated_gradient",
    "singular_values",
    "spectrum_values",
    "stability_experiment",
    "stable_rank",
    "unrearrange",
]
