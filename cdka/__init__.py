"""CDKA: component designed Kronecker adapters (arXiv 2602.01267), from choosing a configuration to comparing runs.

``import cdka`` is light: torch, PEFT and Streamlit are imported only by the names that need them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cdka import moved

__version__ = "0.2.0.dev0"

_HOMES = {
    "CdkaError": "cdka.errors",
    "Components": "cdka.components",
    "RunSpec": "cdka.runs.spec",
    "CdkaConfig": "cdka.adapter",
    "CdkaModel": "cdka.adapter",
    "CdkaLayer": "cdka.adapter",
    "add_adapters": "cdka.adapter_files",
    "export_adapter": "cdka.adapter_files",
    "export_lora": "cdka.adapter_files",
    "import_adapter": "cdka.adapter_files",
    **dict.fromkeys(
        (
            "measure_alignment",
            "fine_tune",
            "run_sweep",
            "run_study",
            "reproduce",
            "open_adapter",
            "generate",
            "list_models",
            "list_tasks",
            "describe",
        ),
        "cdka.notebook.verbs",
    ),
    "solve": "cdka.notebook.options",
    "compare_runs": "cdka.notebook.compared",
    "Store": "cdka.notebook.runs",
    "log_run": "cdka.notebook.log",
    "open_studio": "cdka.notebook.studio",
}
_ROOMS = (
    "adapter",
    "compare",
    "adapter_files",
    "models",
    "runs",
    "stats",
    "sweep",
    "tasks",
    "theory",
    "train",
    "transformers",
)
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"cdka.{name}")
    raise AttributeError(f"module 'cdka' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})


moved.install()
