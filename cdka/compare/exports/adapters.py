"""The adapters of a comparison: as they were saved (PEFT's format), or as exact standard LoRA."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from cdka.adapter_files import export_lora
from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.errors import CdkaError


def zip_adapters(
    comparison: Comparison, source: Source, arms: Sequence[str], *, lora: bool = False
) -> Generator[dict[str, Any], None, bytes]:
    """A zip with one folder per run of ``arms`` (full fine-tuning has none); after each, yields ``done`` and ``of``.

    ``lora`` converts CDKA adapters to LoRA of rank r r1 r2, without approximation. Raises CdkaError where there is no
    adapter, or one cannot be converted.
    """
    rows = comparison.frame[comparison.frame["arm"].isin(arms) & (comparison.frame["method"] != "full")]
    found = [(row, directory) for row in rows.itertuples() if (directory := source.adapter_dir(row.run_id)) is not None]
    if not found:
        raise CdkaError("none of the shown runs has an adapter: they are unfinished, removed, or full fine-tuning.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # weights hardly get smaller, only later
        for done, (row, directory) in enumerate(found, start=1):
            name = "".join(c if c.isalnum() or c in "-_." else "_" for c in row.arm_label)
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made) / f"{name}-seed-{row.seed}-{row.run_id}"
                if lora and row.method == "cdka":
                    export_lora(directory, folder)
                else:
                    shutil.copytree(directory, folder)
                for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                    archive.write(path, path.relative_to(made).as_posix())
            yield {"done": done, "of": len(found)}
    return buffer.getvalue()
