"""The runs that the form asks for, and settings carried over from a run or a design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import configurations, widgets
from cdka.sweep.match import EACH
from cdka.sweep.plan import Plan, plan

_CARRIED = "tune-extras"
_PATTERN = "tune-pattern"


@dataclass(frozen=True)
class RunRequest:
    """The request of the form. ``entries`` are configurations as typed, ``baselines`` as in ``cdka.sweep.plan``.

    ``seeds`` is how many, counted from ``first_seed``; ``settings`` are the recipe's knobs as given: steps, lr, ...
    ``pattern`` holds the components of single modules for the entry ``patterned``.
    """

    model: str
    task: str
    entries: tuple[str, ...]
    baselines: tuple[str, ...] = ()
    seeds: int = 1
    settings: tuple[tuple[str, Any], ...] = ()
    first_seed: int = 0
    patterned: str = ""
    pattern: tuple[tuple[str, str], ...] = ()

    def plan(self) -> Plan:
        """The runs to be launched. Raises CdkaError where nothing can be trained; what is left out is in the notes."""
        arms = [
            configurations.run_settings(entry)
            | ({"component_pattern": dict(self.pattern)} if self.pattern and entry == self.patterned else {})
            for entry in self.entries
        ]
        return plan(
            self.model,
            self.task,
            arms=arms,
            baselines=self.baselines,
            budget=EACH if self.baselines else None,
            settings=dict(self.settings),
            seeds=list(range(self.first_seed, self.first_seed + self.seeds)) if self.first_seed else self.seeds,
        )


def carry(source: str, model: str, task: str, settings: Mapping[str, Any], *, keep: bool = False) -> None:
    """Hand settings that the form does not ask for on with requests for this model and task; from a callback.

    ``source`` is a run's id, or says where they are from; with ``keep`` those handed on before stay where they differ.
    """
    kept = st.session_state.get(_CARRIED)
    before = kept["settings"] if keep and kept and kept["of"] == (model, task) else {}
    st.session_state[_CARRIED] = {"of": (model, task), "run": source, "settings": {**before, **settings}}


def carried(model: str, task: str) -> dict[str, Any]:
    """The carried settings for this model and task, shown to the reader, who may drop them."""
    kept = st.session_state.get(_CARRIED)
    if not kept or kept["of"] != (model, task) or not kept["settings"]:
        return {}
    named = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in kept["settings"].items())
    widgets.remark(f"As in {kept['run']}: {named}")
    if st.button("Drop these", key="tune-drop", type="tertiary", on_click=_drop, args=(_CARRIED,)):
        return {}
    return dict(kept["settings"])


def carry_pattern(model: str, default: str, pattern: Mapping[str, str]) -> None:
    """Train ``default`` on this model with these components for single modules."""
    st.session_state[_PATTERN] = {"model": model, "default": default, "pattern": tuple(pattern.items())}


def carried_pattern(model: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The entry and its components for single modules that a design handed over; empty for another model."""
    kept = st.session_state.get(_PATTERN)
    if not kept or kept["model"] != model:
        return "", ()
    modules = ", ".join(f"{path} {components}" for path, components in kept["pattern"])
    widgets.remark(f"cdka {kept['default']} has other components in some modules: {modules}")
    if st.button("The same everywhere", key="tune-drop-pattern", type="tertiary", on_click=_drop, args=(_PATTERN,)):
        return "", ()
    return kept["default"], kept["pattern"]


def _drop(key: str) -> None:
    st.session_state.pop(key, None)
