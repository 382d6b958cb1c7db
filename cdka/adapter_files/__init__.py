"""Files of Kronecker adapters in every dialect: read, written, added, shrunk. NumPy, no torch."""

from __future__ import annotations

from cdka.adapter_files.adapter_file import AdaptedModule, AdapterFile
from cdka.adapter_files.exchange import (
    Exchange,
    LoraExport,
    add_adapters,
    export_adapter,
    export_lora,
    import_adapter,
    shrink_adapter,
)
from cdka.adapter_files.read import KINDS, open_adapter
from cdka.adapter_files.serving import ServingPlan, serving_plan
from cdka.adapter_files.write import WRITERS

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
