"""The adapters of a comparison: as they were saved (PEFT's format), or as exact standard LoRA."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cdka.adapter_files import export_lora
from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.errors import CdkaError


def write_adapters(
    folder: Path, comparison: Comparison, source: Source, arms: Sequence[str], *, lora: bool = False
) -> int:
    """Write one folder per run of ``arms`` (full fine-tuning has none); returns the number of adapters.

    ``lora`` converts CDKA adapters to LoRA of rank r r1 r2, without approximation. Raises CdkaError where there is no
    adapter, or one cannot be converted.
    """
    rows = comparison.frame[comparison.frame["arm"].isin(arms) & (comparison.frame["method"] != "full")]
    written = 0
    for row in rows.itertuples():
        directory = source.adapter_dir(row.run_id)
        if directory is None:
            continue
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in row.arm_label)
        target = folder / f"{name}-seed-{row.seed}-{row.run_id}"
        if lora and row.method == "cdka":
            export_lora(directory, target)
        else:
            shutil.copytree(directory, target)
        written += 1
    if not written:
        raise CdkaError("none of the shown runs has an adapter: they are unfinished, removed, or full fine-tuning.")
    return written
