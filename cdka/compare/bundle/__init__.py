"""Claim bundles: one zip with everything behind a comparison, checked on import, executing nothing."""

from cdka.compare.bundle.read import Bundle
from cdka.compare.bundle.unpack import NAME as EXAMPLE
from cdka.compare.bundle.unpack import (
    example,
    example_title,
    forget,
    import_bundle,
    imported,
    imported_bundle,
    open_bundle,
)
from cdka.compare.bundle.write import write_bundle

__all__ = [
    "EXAMPLE",
    "Bundle",
    "example",
    "example_title",
    "forget",
    "import_bundle",
    "imported",
    "imported_bundle",
    "open_bundle",
    "write_bundle",
]
