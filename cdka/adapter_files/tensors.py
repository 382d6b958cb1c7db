"""Adapter files as bytes: safetensors in every precision, read and written without torch."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from cdka.errors import CdkaError

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a file: its safetensors dtype (``F32``, ``BF16``, ...), shape and little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: np.ndarray, dtype: str = "F32") -> Tensor:
        """A tensor from an array, rounded to ``F64``, ``F32`` or ``F16``."""
        return cls(dtype, array.shape, np.ascontiguousarray(array, dtype=_NUMPY[dtype]).tobytes())

    def array(self, where: str = "") -> np.ndarray:
        """The numbers in float64. Raises CdkaError for precisions that hold no plain numbers, such as packed 4 bits."""
        if self.dtype == "BF16":  # NumPy has none: it is the upper half of a float32
            flat = (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4")
        elif self.dtype in _NUMPY:
            flat = np.frombuffer(self.data, _NUMPY[self.dtype])
        else:
            raise CdkaError(
                f"adapters are read in {', '.join(_FLOATS)}: got {self.dtype} in {where!r}. Save it in one of these."
            )
        return flat.reshape(self.shape).astype(np.float64)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file by name, and its metadata. Raises CdkaError for anything else."""
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise CdkaError(
            f"adapters are read from safetensors, which cannot run code: got the pickle {path.name!r}. "
            "Load it where it was made and save it with safe_serialization=True."
        )
    try:
        blob = path.read_bytes()
        items = safetensors.deserialize(blob)
        size = int.from_bytes(blob[:8], "little")
        metadata = json.loads(blob[8 : 8 + size]).get("__metadata__") or {}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CdkaError(
            f"an adapter file must be a whole safetensors file: {str(path)!r} is not ({reason[:120]}). "
            "Copy or download it again."
        ) from None
    return {name: Tensor(t["dtype"], tuple(t["shape"]), bytes(t["data"])) for name, t in items}, metadata


def read_config(path: Path) -> dict[str, Any]:
    """The settings in an ``adapter_config.json``. Raises CdkaError unless it is a JSON object."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CdkaError(f"{CONFIG_FILE} must be JSON: {str(path)!r} is not ({reason[:120]}). Copy it again.") from None
    if not isinstance(config, dict):
        raise CdkaError(f"{CONFIG_FILE} must hold one JSON object: {str(path)!r} holds a {type(config).__name__}.")
    return config


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file: the length of a JSON header, the header, the data in the order of the names."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        stop = start + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(tensors[name].data for name in sorted(tensors))])


def write_adapter(target: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> Path:
    """Writes an adapter that is complete or not there at all; returns the file or directory.

    With a ``config``, or where ``target`` has no suffix ``.safetensors``, it becomes a directory. Raises CdkaError
    where the place holds something or cannot be written.
    """
    blob = serialize(tensors, {"format": "pt"})
    as_file = target.suffix == ".safetensors"
    if as_file and config is not None:
        raise CdkaError(
            f"this kind of adapter is a directory: got the file name {target.name!r}. Leave its suffix out."
        )
    try:
        empty = not target.exists() or (target.is_dir() and not as_file and not any(target.iterdir()))
    except OSError:
        empty = False
    if not empty:
        what = "a new file" if as_file else "a new or empty directory"
        raise CdkaError(f"the export needs {what}: got {str(target)!r}. Choose another or empty it.")

    def fill(folder: Path) -> Path:
        (folder / WEIGHTS_FILE).write_bytes(blob)
        if config is not None:
            (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
        return folder / WEIGHTS_FILE if as_file else folder

    _place(target, fill)
    return target


def _place(target: Path, fill: Callable[[Path], Path]) -> None:
    """Lets ``fill`` make a file or folder beside the target, then moves it there in one step."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".export-", dir=target.parent))
        try:
            partial.chmod(0o755)
            fill(partial).replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CdkaError(f"cannot write the adapter to {os.fspath(target)!r}: {reason}. Choose another place.") from None
