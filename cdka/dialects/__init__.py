"""The dialects of Kronecker adapters: read any of them, write what others load, add, shrink. NumPy, no torch."""

from __future__ import annotations

from cdka.dialects.adapter_file import AdaptedModule, AdapterFile
from cdka.dialects.exchange import (
    Exchange,
    LoraExport,
    add_adapters,
    export_adapter,
    export_lora,
    import_adapter,
    shrink_adapter,
)
from cdka.dialects.read import KINDS, open_adapter
from cdka.dialects.serving import ServingPlan, serving_plan
from cdka.dialects.write import WRITERS

__all__ = [
    "KINDS",
    "WRITERS",
    "AdaptedModule",
    "AdapterFile",
    "Exchange",
    "LoraExport",
    "ServingPlan",
    "add_adapters",
    "export_adapter",
    "export_lora",
    "import_adapter",
    "open_adapter",
    "serving_plan",
    "shrink_adapter",
]
