"""The example that an empty Compare page shows: a claim bundle in ``assets/``, of runs that this package trained."""

from __future__ import annotations

import json
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

from cdka.compare.bundle.layout import MANIFEST
from cdka.compare.bundle.read import Bundle
from cdka.compare.bundle.unpack import unpack
from cdka.paths import assets_dir

NAME = "example"
FILE = "compare-example.zip"


def example() -> Bundle:
    """The embedded example, unpacked for as long as this process runs and checked as any other bundle."""
    return _unpacked()[1]


@lru_cache(maxsize=1)
def example_title() -> str:
    """The name of the example, without unpacking it."""
    with zipfile.ZipFile(assets_dir() / FILE) as file:
        return json.loads(file.read(MANIFEST))["name"]


@lru_cache(maxsize=1)
def _unpacked() -> tuple[tempfile.TemporaryDirectory, Bundle]:
    folder = tempfile.TemporaryDirectory(prefix="cdka-example-")
    return folder, unpack(assets_dir() / FILE, Path(folder.name))
