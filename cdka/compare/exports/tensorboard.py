"""TensorBoard event files: one folder per run, written by tensorboardX in a child process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cdka import childproc
from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.errors import CdkaError
from cdka.plain_json import finite

LIMIT_S = 600.0


def write_tensorboard(folder: Path, comparison: Comparison, source: Source) -> None:
    """A run directory for ``tensorboard --logdir``: ``arm/seed-N-run`` with every curve and final metric.

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
        for name in own.columns[own.columns.str.contains("/")] if own is not None else ():
            some = own[own[name].notna()]
            if len(some):
                at = row.created_at + some["elapsed_s"].fillna(0.0)
                scalars[name] = list(zip(some["step"].tolist(), some[name].tolist(), at.tolist(), strict=True))
        last = int(own["step"].max()) if own is not None and len(own) else 0
        for name, value in metrics[row.run_id].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                scalars.setdefault(name if "/" in name else f"final/{name}", [(last, value, row.created_at)])
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in row.arm_label)
        runs.append(
            {
                "folder": str(folder / name / f"seed-{row.seed}-{row.run_id}"),
                "at": row.created_at,
                "scalars": scalars,
                "text": json.dumps(specs[row.run_id], indent=1),
            }
        )
    childproc.call(
        "cdka.compare.exports.tensorboard:write_events",
        {"runs": finite(runs)},
        limit_s=LIMIT_S,
        failure="TensorBoard files could not be written",
    )


def write_events(runs: list[dict[str, Any]]) -> None:
    """Write the event files of ``runs``, in a child process. Raises CdkaError where tensorboardX is missing."""
    sys.modules["torch"] = None  # tensorboardX would import it, seconds of work, for nothing
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise CdkaError("TensorBoard files need tensorboardX. Run: pip install tensorboardX") from None
    for run in runs:
        with SummaryWriter(run["folder"]) as writer:
            writer.add_text("specification", run["text"], 0, walltime=run["at"])
            for tag, points in run["scalars"].items():
                for step, value, at in points:
                    writer.add_scalar(tag, value, step, walltime=at)
