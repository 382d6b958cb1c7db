"""From file to file: import, export, add, shrink. Each returns what was written and how exact it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdka.adapter_files.adapter_file import AdaptedModule, AdapterFile, describe_module
from cdka.adapter_files.names import style_of
from cdka.adapter_files.read import open_adapter, opened
from cdka.adapter_files.serving import ServingPlan, serving_plan
from cdka.adapter_files.tensors import write_adapter
from cdka.adapter_files.write import WRITERS, Written, to_cdka
from cdka.components import Components
from cdka.errors import CdkaError, unknown
from cdka.paths import pasted_path
from cdka.theory.factors import added

Place = str | os.PathLike[str]
EXACT = 1e-7
"""Relative errors up to here are the rounding of float32."""
_KEEP_PREFIX = ("kohya", "simpletuner", "ai-toolkit", "diffusers")


@dataclass(frozen=True, eq=False)
class Exchange:
    """A written adapter: its folder, the adapter as read (or computed), each module's relative error, its loaders."""

    path: Path
    target: str
    adapter: AdapterFile
    errors: dict[str, float]
    ranks: dict[str, int]
    serving: ServingPlan

    @property
    def error(self) -> float:
        """The largest relative error of delta W on any module, in the Frobenius norm."""
        return max(self.errors.values())

    @property
    def exact(self) -> bool:
        """True where every delta W is the same up to the rounding of the file's precision."""
        return self.error <= EXACT

    def to_dict(self) -> dict[str, Any]:
        """The answer of ``cdka import``, ``export`` and ``add`` with ``--json``."""
        return {
            "kind": self.adapter.kind,
            "target": self.target,
            "path": str(self.path),
            "exact": self.exact,
            "num_modules": len(self.adapter.modules),
            "num_params": self.adapter.num_params,
            "rank": max(self.ranks.values()),
            "error": self.error,
            "modules": [
                describe_module(m) | {"rank": self.ranks[m.name], "error": self.errors[m.name]}
                for m in self.adapter.modules
            ],
            "notes": list(self.adapter.notes),
            "serving": self.serving.to_dict(),
        }


@dataclass(frozen=True)
class LoraExport:
    """The result of ``export_lora``: the directory, the rank of every module, and a note for serving (or "")."""

    directory: Path
    ranks: dict[str, int]
    note: str


def import_adapter(
    path: Place,
    out_dir: Place,
    *,
    model: Place | None = None,
    only: str | None = None,
    components: Components | None = None,
) -> Exchange:
    """Writes an adapter of any known kind as a CDKA adapter with the same delta W, exactly; see ``open_adapter``.

    ``model`` (a folder of safetensors or a catalogue name) gives the paths of layers whose names are joined by
    underscores, and has all sizes checked.

    >>> cdka.import_adapter("my-lora", "as-cdka").exact
    True
    """
    adapter = opened(path, model=model, only=only, components=components)
    return _put(adapter, to_cdka(adapter), "cdka", pasted_path(out_dir))


def export_adapter(
    adapter_dir: Place,
    out: Place,
    to: str,
    *,
    max_rank: int | None = None,
    approximate: bool = False,
    prefix: str | None = None,
    model: Place | None = None,
) -> Exchange:
    """Writes an adapter of any known kind in the dialect ``to``, one of ``WRITERS``, without a base model.

    Raises CdkaError where that cannot be exact, unless ``approximate`` allows the nearest; and for a LoRA above
    ``max_rank`` likewise.

    >>> cdka.export_adapter("my-lora", "for-kohya.safetensors", "kohya").serving.rank
    2
    """
    if to not in WRITERS:
        raise unknown("kind of adapter", to, WRITERS, where="for --to", next_step=f"Known: {', '.join(WRITERS)}.")
    options: dict[str, Any] = {} if prefix is None else {"prefix": prefix}
    if max_rank is not None:
        if to not in ("lora", "kohya"):
            raise CdkaError(f"a largest rank is for LoRA (lora, kohya): got --max-rank {max_rank} with --to {to}.")
        if max_rank < 1:
            raise CdkaError(f"--max-rank must be a positive integer: got {max_rank}.")
        options["max_rank"] = max_rank
    if approximate:
        if to not in ("lora", "kohya", "lokr", "peft-lokr"):
            raise CdkaError(f"--to {to} is always exact: leave --approximate out.")
        options["approximate"] = True
    adapter = opened(adapter_dir, model=model)
    if prefix is None and to in ("kohya", "lokr", "storyaura") and style_of(adapter.prefix) in _KEEP_PREFIX:
        options["prefix"] = adapter.prefix
    return _put(adapter, WRITERS[to](adapter, **options), to, pasted_path(out))


def export_lora(adapter_dir: Place, out_dir: Place) -> LoraExport:
    """Writes the CDKA adapter in ``adapter_dir`` to ``out_dir`` as a PEFT LoRA adapter with the same outputs.

    Needs no base model. Trained heads and biases are carried over. The directory is complete or not there at all.
    Raises CdkaError if ``adapter_dir`` is not a CDKA adapter or ``out_dir`` holds anything already.

    >>> cdka.export_lora("my-cdka", "my-cdka-as-lora").ranks["layers.0.q_proj"]
    16
    """
    adapter = open_adapter(adapter_dir)
    if adapter.method != "cdka":
        raise CdkaError(f"only CDKA adapters need this export: got {adapter.kind} in {str(Path(adapter_dir))!r}.")
    done = _put(adapter, WRITERS["lora"](adapter), "lora", pasted_path(out_dir))
    return LoraExport(done.path, done.ranks, " ".join(done.serving.notes))


def add_adapters(
    first: Place,
    second: Place,
    out_dir: Place,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    to: Components | None = None,
) -> Exchange:
    """Writes ``weights[0] * first + weights[1] * second`` as a CDKA adapter, exactly, at common divisors of r1 and r2.

    Modules that only one of them adapts are taken over with its weight. ``to`` shrinks every module to the nearest of
    these components; the error is returned. Raises CdkaError for layers that differ in size.

    >>> cdka.add_adapters("my-lora", "my-cdka", "both", weights=(1, 0.5)).exact
    True
    """
    one, two = open_adapter(first), open_adapter(second)
    for adapter in (one, two):
        if adapter.extra:
            raise CdkaError(
                f"only adapters can be added, not trained heads or biases: {str(adapter.path)!r} has "
                f"{len(adapter.extra)} of "
                "them. Merge one adapter into the base model first."
            )
    names = dict.fromkeys([m.name for m in one.modules] + [m.name for m in two.modules])
    modules = tuple(_added(name, one.find(name), two.find(name), weights) for name in names)
    notes = [] if len(names) == len(one.modules) == len(two.modules) else [_lonely(one, two)]
    kept = {
        k: v
        for k, v in one.config.items()
        if k in ("task_type", "base_model_name_or_path", "revision", "fan_in_fan_out")
    }
    total = AdapterFile(
        kind=f"{one.kind} + {two.kind}",
        method="cdka",
        modules=modules,
        config=kept,
        notes=tuple(notes),
        path=pasted_path(out_dir),
    )
    return _shrunk(total, to, pasted_path(out_dir))


def shrink_adapter(adapter_dir: Place, out_dir: Place, to: Components) -> Exchange:
    """Writes the nearest CDKA adapter with these components; the relative error of every module is returned."""
    return _shrunk(open_adapter(adapter_dir), to, pasted_path(out_dir))


def _shrunk(adapter: AdapterFile, to: Components | None, out: Path) -> Exchange:
    errors = dict.fromkeys((m.name for m in adapter.modules), 0.0)
    if to is not None:
        modules = []
        for module in adapter.modules:
            to.check(*module.factors.shape, where=module.name)
            factors, errors[module.name] = module.factors.nearest(to)
            modules.append(replace(module, factors=factors))
        adapter = replace(adapter, modules=tuple(modules))
    return _put(adapter, replace(to_cdka(adapter), errors=errors), "cdka", out)


def _added(
    name: str, one: AdaptedModule | None, two: AdaptedModule | None, weights: tuple[float, float]
) -> AdaptedModule:
    if one is None or two is None:
        only, weight = (one, weights[0]) if two is None else (two, weights[1])
        factors = replace(only.factors, scaling=only.factors.scaling * weight)
        return replace(only, factors=factors)
    if one.factors.shape != two.factors.shape:
        raise CdkaError(
            f"adapters of one model can be added: {name!r} is {one.factors.shape} (out, in) in one and "
            f"{two.factors.shape} in "
            "the other."
        )
    dtype = "F64" if "F64" in (one.dtype, two.dtype) else "F32"
    factors = added(one.factors, two.factors, weights).compressed()
    return replace(one, factors=factors, dtype=dtype, kernel=one.kernel or two.kernel)


def _lonely(one: AdapterFile, two: AdapterFile) -> str:
    alone = {m.name for m in one.modules} ^ {m.name for m in two.modules}
    return f"{len(alone)} modules are adapted by one of the two only and are taken over from it."


def _put(adapter: AdapterFile, written: Written, target: str, out: Path) -> Exchange:
    path = write_adapter(out, written.tensors, written.config)
    serving = serving_plan(adapter, target, written.ranks)
    return Exchange(path, target, adapter, written.errors, written.ranks, serving)
