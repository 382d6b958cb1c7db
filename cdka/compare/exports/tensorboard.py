"""TensorBoard event files: one folder per run, written by tensorboardX in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.errors import CdkaError
from cdka.runs.encoding import finite

_WRITER = """
import json, sys
sys.modules["torch"] = None  # tensorboardX would import it, seconds of work, for nothing
from tensorboardX import SummaryWriter
for run in json.load(sys.stdin):
    with SummaryWriter(run["folder"]) as writer:
        writer.add_text("specification", run["text"], 0, walltime=run["at"])
        for tag, points in run["scalars"].items():
            for step, value, at in points:
                writer.add_scalar(tag, value, step, walltime=at)
"""
_TAGS = {
    ("step", "loss"): "train/loss",
    ("eval", "loss"): "validation/loss",
    ("eval", "accuracy"): "validation/accuracy",
}


def write_tensorboard(folder: Path, comparison: Comparison, source: Source) -> None:
    """A run directory for ``tensorboard --logdir``: ``arm/seed-N-run`` with losses, accuracies and the final metrics.

    Raises CdkaError where tensorboardX is missing or fails.
    """
    frame = comparison.frame
    curves = source.curves(frame["run_id"].to_list())
    specs, metrics = source.specs(), source.metrics()
    points = dict(list(curves.groupby("run_id")))
    runs = []
    for row in frame.itertuples():
        own = points.get(row.run_id)
        scalars = {}
        for (kind, column), tag in _TAGS.items():
            some = own[(own["kind"] == kind) & own[column].notna()] if own is not None else []
            if len(some):
                at = row.created_at + some["elapsed_s"].fillna(0.0)
                scalars[tag] = list(zip(some["step"].tolist(), some[column].tolist(), at.tolist(), strict=True))
        last = int(own["step"].max()) if own is not None and len(own) else 0
        for name, value in metrics[row.run_id].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                scalars[f"final/{name}"] = [(last, value, row.created_at)]
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in row.arm_label)
        runs.append(
            {
                "folder": str(folder / name / f"seed-{row.seed}-{row.run_id}"),
                "at": row.created_at,
                "scalars": scalars,
                "text": json.dumps(specs[row.run_id], indent=1),
            }
        )
    done = subprocess.run(
        [sys.executable, "-c", _WRITER], input=json.dumps(finite(runs)), text=True, capture_output=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
        raise CdkaError(f"TensorBoard files could not be written: {reason}. Run: pip install tensorboardX")
