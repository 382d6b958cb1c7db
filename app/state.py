"""The state in the address bar: one table of the properties that make a view shareable.

A view binds a widget to its property with ``**state.bound("r1")``; Streamlit then keeps the URL and the widget the
same, and leaves defaults out of the URL. ``arrive`` tells in one line what a pasted URL got wrong; ``query`` makes
links.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import configurations, form_memory, widgets
from cdka.errors import CdkaError, unknown
from cdka.solver import OBJECTIVES
from cdka.tasks.catalogue import find_task


@dataclass(frozen=True)
class Property:
    """One value in the URL of one room or of several.

    ``kind`` is str, int, float, bool or list (a tuple of str, a repeated parameter). ``check`` raises CdkaError for a
    value outside the property's range; it is given the parsed value.
    """

    rooms: tuple[str, ...]
    name: str
    kind: type
    default: Any
    meaning: str
    check: Callable[[Any], Any] | None = None

    def read(self, texts: list[str]) -> Any:
        """The value that the URL's texts stand for; raises CdkaError where they stand for none."""
        if self.kind is list:
            value: Any = tuple(text for text in texts if text)
        else:
            try:
                value = _parse(self.kind, texts[-1])
            except ValueError:
                wanted = {int: "a whole number", float: "a number", bool: "true or false"}[self.kind]
                raise CdkaError(f"{self.name} must be {wanted}: got {texts[-1]!r}.") from None
        if self.check is not None:
            self.check(value)
        return value

    def write(self, value: Any) -> list[str] | None:
        """The texts that stand for ``value`` in the URL, None for the default; the inverse of ``read``."""
        return None if value == self.default else self.texts(value)

    def texts(self, value: Any) -> list[str]:
        """The texts that stand for ``value`` in a URL that leaves nothing out."""
        if self.kind is list:
            return [str(item) for item in value]
        return [str(value).lower() if self.kind is bool else str(value)]


def _parse(kind: type, text: str) -> Any:
    if kind is not bool:
        return kind(text)
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def one_of(what: str, *choices: str) -> Callable[[str], None]:
    """A check that the value is one of ``choices``."""

    def check(value: str) -> None:
        if value not in choices:
            raise unknown(what, value, choices)

    return check


def between(name: str, least: float, most: float) -> Callable[[float], None]:
    """A check that the value lies in a closed range."""

    def check(value: float) -> None:
        if not least <= value <= most:
            raise CdkaError(f"{name} must lie between {least:,} and {most:,}: got {value:,}.")

    return check


def _model(value: str) -> None:
    from cdka.models.catalogue import find_model

    find_model(value)


def _basket(value: tuple[str, ...]) -> None:

    configurations.check(value)


MAX_VALUE = 65_536
"""Larger component dimensions than any layer has divisors for."""

LISTS = ("All", "Pareto front", "LoRA", "Guidelines", "Per module")
DEVICES = ("any device", "this machine", "24 GB GPU", "40 GB GPU", "80 GB GPU", "141 GB GPU")
RULES = {"refused": "error", "left out": "skip", "given the nearest": "nearest"}
"""The rules for modules that r1 or r2 does not divide, each by its name in ``cdka.components.INDIVISIBLE``."""
SERVED = ("any", "16", "32", "64", "128", "256", "512")
"""Lists of the Design room."""

_DESIGN, _TUNE, _ALIGN, _COMPARE = ("design",), ("finetune",), ("align",), ("compare",)
_SWEEPS = ("sweeps",)
FORM_ROOMS = frozenset((*_TUNE, *_SWEEPS, *_ALIGN))
"""The rooms whose forms a new session finds as the last one left them."""
PROPERTIES: tuple[Property, ...] = (
    Property(_DESIGN, "model", str, "digits-vit", "the model to adapt", _model),
    Property((*_DESIGN, *_TUNE), "modules", list, ("all-linear",), "which modules: a role, names, or one expression"),
    Property(
        (*_DESIGN, *_TUNE),
        "indivisible",
        str,
        "refused",
        "what becomes of a module that r1 or r2 does not divide",
        one_of("indivisible", *RULES),
    ),
    Property(_DESIGN, "budget", str, "lora:4", "the most trainable parameters: a count, a share, or a LoRA rank"),
    Property(_DESIGN, "r1", int, 2, "rows of A_i, divides out_features", between("r1", 1, MAX_VALUE)),
    Property(_DESIGN, "r2", int, 8, "columns of B_i, divides in_features", between("r2", 1, MAX_VALUE)),
    Property(_DESIGN, "r", int, 1, "number of components", between("r", 1, MAX_VALUE)),
    Property(_DESIGN, "height", str, "Alignment", "what is up", one_of("height", "Alignment", "Rank")),
    Property(_DESIGN, "list", str, "All", "which options are listed", one_of("list", *LISTS)),
    *(
        Property(_DESIGN, f"weigh_{name}", float, 0.0, objective.meaning, between(f"weigh_{name}", 0, 3))
        for name, objective in OBJECTIVES.items()
    ),
    *(
        Property(_DESIGN, f"max_{name}", int, 0, f"the largest {name}, 0 for any", between(f"max_{name}", 0, MAX_VALUE))
        for name in ("r1", "r2", "r")
    ),
    Property(_DESIGN, "device", str, DEVICES[0], "where training would run", one_of("device", *DEVICES)),
    Property(_DESIGN, "served", str, SERVED[0], "the largest rank of the exact LoRA export", one_of("served", *SERVED)),
    Property((*_DESIGN, *_TUNE), "basket", list, ("2,8,1",), "what is to be compared", _basket),
    Property(_TUNE, "on", str, "digits-vit", "the model to fine-tune", _model),
    Property(_TUNE, "task", str, "digits-flip", "the task to fine-tune on", find_task),
    Property((*_TUNE, *_SWEEPS, *_ALIGN), "data-path", str, "", "your own data: a file or a folder on this machine"),
    Property(_TUNE, "tune-steps", int, 200, "optimizer steps of each run", between("steps", 1, 1_000_000)),
    Property(_TUNE, "tune-lr", str, "0.001", "the peak learning rate"),
    Property(_TUNE, "tune-alpha", float, 64.0, "alpha", between("alpha", 0.001, 1e6)),
    Property(_TUNE, "tune-batch_size", int, 64, "examples of a batch", between("batch size", 1, 65_536)),
    Property(_TUNE, "tune-max_length", int, 512, "tokens of the longest sequence", between("length", 0, 1_000_000)),
    Property(_TUNE, "tune-seeds", int, 1, "seeds of each configuration", between("seeds", 1, 100)),
    Property(_TUNE, "tune-baselines", list, ("LoRA, equal cost",), "the methods trained beside, at equal cost"),
    Property(_TUNE, "show", str, "now", "which runs are shown: now, all, or a sweep's id"),
    Property(_ALIGN, "align_model", str, "digits-vit", "whose layers are looked at", _model),
    Property(_ALIGN, "align_task", str, "digits-flip", "whose gradient is measured", find_task),
    *(
        Property(_ALIGN, f"align_{name}", int, value, f"{name} of the selected option", between(name, 1, MAX_VALUE))
        for name, value in (("r1", 2), ("r2", 8), ("r", 1))
    ),
    Property(
        _SWEEPS,
        "part",
        str,
        "Build a sweep",
        "the builder, all sweeps, or the studies",
        one_of("part", "Build a sweep", "Your sweeps", "Studies"),
    ),
    Property(_SWEEPS, "plan_model", str, "digits-vit", "the model of a plan or a study", _model),
    Property(_SWEEPS, "plan_task", str, "digits-flip", "the task of a plan or a study", find_task),
    Property(
        _SWEEPS, "arms", str, "Grid", "where the arms come from", one_of("arms", "Grid", "Equal budget", "Plan file")
    ),
    Property(_SWEEPS, "axis_r1", str, "1, 2, 4, 8", "the values of r1 in a grid"),
    Property(_SWEEPS, "axis_r2", str, "4", "the values of r2 in a grid"),
    Property(_SWEEPS, "axis_r", str, "1", "the values of r in a grid"),
    Property(_SWEEPS, "plan_budget", str, "lora:4", "what the arms of an equal-budget plan are matched to"),
    Property(
        _COMPARE, "sweep", list, (), "what is compared: sweep ids, or imported bundles; the newest sweep if empty"
    ),
    Property(_COMPARE, "metric", str, "test accuracy", "which number of each run"),
    Property(_COMPARE, "at", str, "at the end", "where it is read: at the end, best on validation, or at step N"),
    Property(_COMPARE, "against", str, "LoRA, else the first arm", "the reference arm by label, or every other arm"),
    Property(_COMPARE, "view", str, "Cost", "which figure"),
    Property(_COMPARE, "only", list, (), "shown arms: factor=level"),
    Property(_COMPARE, "hide", list, (), "hidden arms, by label"),
    Property(_COMPARE, "axis", str, "step", "the x axis of the curves"),
    Property(_COMPARE, "curve", str, "validation accuracy", "which curve"),
    Property(_COMPARE, "facet", str, "by what varies", "small multiples: by what varies, none, by r1, by r2 or by r"),
    Property(_COMPARE, "cost", str, "trainable parameters", "the cost on the x axis of the front"),
    Property(_COMPARE, "map_of", str, "", "the model and task of the map, where several are compared"),
    Property(_COMPARE, "budget_of", str, "", "the parameter count at which methods are compared"),
    Property(_COMPARE, "layer", str, "", "the layer taken apart, by name"),
    Property(_COMPARE, "component", int, 1, "the component taken apart", between("component", 1, MAX_VALUE)),
    Property(_COMPARE, "side", str, "only A right", "which examples: only A right, only B right, or both wrong"),
    Property(_COMPARE, "arm_a", str, "", "the arm looked at closely, by label"),
    Property(_COMPARE, "arm_b", str, "", "the arm it is held against, by label"),
    Property(_COMPARE, "arm_seed", int, 0, "the seed looked at closely", between("arm_seed", 0, 2**32)),
)
"""Add a line here to make a widget shareable; a name means the same in every room that has it."""


def table(room: str) -> dict[str, Property]:
    """The properties of one room by name."""
    return {p.name: p for p in PROPERTIES if room in p.rooms}


_BY_NAME = {p.name: p for p in PROPERTIES}


def bound(name: str) -> dict[str, str]:
    """The arguments that tie a widget to its property in the URL."""
    return {"key": _BY_NAME[name].name, "bind": "query-params"}


def default(name: str) -> Any:
    """The default of a property: pass it to the widget, so that the URL stays short."""
    return _BY_NAME[name].default


def read_all(room: str, params: Mapping[str, list[str]]) -> tuple[dict[str, Any], list[str]]:
    """The values a URL stands for (defaults where it is silent or wrong), and one line for each thing wrong."""
    values, notices = {}, []
    for name, prop in table(room).items():
        values[name] = prop.default
        if params.get(name):
            try:
                values[name] = prop.read(params[name])
            except CdkaError as refusal:
                notices.append(f"Part of this link could not be used: {refusal} Showing the default.")
    return values, notices


def arrive(room: str) -> dict[str, Any]:
    """The values in the address bar on arrival in a room.

    A URL with something wrong in it is corrected first (widgets would take the bad text over), and the reader told.
    """
    given = {name: st.query_params.get_all(name) for name in table(room)}
    _recall(room, given)
    asked = {name: texts for name, texts in given.items() if not (_matches_url(name) or _refused_here(name, texts))}
    values, notices = read_all(room, asked)
    for name in filter(_matches_url, given):
        with suppress(CdkaError):
            values[name] = _BY_NAME[name].read(given[name])
    if notices:
        st.session_state["url-notices"] = notices
        go(room, **values)
    for notice in st.session_state.pop("url-notices", ()):
        st.warning(widgets.literal(notice), icon=None)
    return values


def _recall(room: str, given: Mapping[str, list[str]]) -> None:
    """Fill in the forms of a new session as the last one left them; an address that asks for something goes first."""
    form_memory.restore()
    if room in FORM_ROOMS and not st.session_state.get(f"been-{room}"):
        st.session_state[f"been-{room}"] = True
        last = {} if any(given.values()) else _last_address(room)
        if last:
            st.switch_page(f"views/{room}.py", query_params=last)


def _last_address(room: str) -> dict[str, list[str]]:
    """The room's address in the last session, without what is no longer valid or held by a widget of this session."""
    found = {}
    for name, value in form_memory.address().items():
        prop = table(room).get(name)
        if prop is not None and name not in st.session_state:
            with suppress(CdkaError, TypeError, ValueError):
                texts = prop.texts(value)
                prop.read(texts)
                if any(texts):
                    found[name] = texts
    return found


def remember() -> None:
    """Keep what the forms hold for the next session; once the page is drawn."""
    form_memory.save([prop.name for prop in PROPERTIES if not FORM_ROOMS.isdisjoint(prop.rooms)])


def _matches_url(name: str) -> bool:
    """True where the URL repeats a widget of this page: then the room, not the address, answers for it."""
    held = st.session_state.get(name)
    if held is None:
        return False
    return st.query_params.get_all(name) == [str(item) for item in (held if isinstance(held, list) else [held])]


def _refused_here(name: str, texts: list[str]) -> bool:
    """True where the URL has what was just typed into a widget of this page and means nothing: told at the widget."""
    if not texts or name not in st.session_state:
        return False
    try:
        _BY_NAME[name].read(texts)
    except CdkaError:
        return True
    return False


def put(name: str, value: Any) -> None:
    """Write a property that no widget is bound to into the URL; only when it changes, or Back would stick."""
    texts = _BY_NAME[name].write(value)
    if texts is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = texts
    st.session_state[f"url-{name}"] = value


def changed_in_url(name: str, value: Any) -> bool:
    """True where the URL's value of an unbound property is new: pasted, linked to, or reached with Back."""
    if st.session_state.get(f"url-{name}", _BY_NAME[name].default) == value:
        return False
    st.session_state[f"url-{name}"] = value
    return True


def query(room: str, **values: Any) -> dict[str, list[str]]:
    """The query of a link to a room with these values; defaults are left out."""
    known = table(room)
    for name in values:
        if name not in known:
            raise unknown("property", name, known, where=f"of {room}")
    written = {name: known[name].write(value) for name, value in values.items()}
    return {name: texts for name, texts in written.items() if texts is not None}


def go(room: str, **values: Any) -> None:
    """Leave for another room with these values.

    What a widget holds already travels with it (Streamlit refuses to write such a parameter); the rest goes by the URL.
    """
    held = {name: value for name, value in values.items() if name in st.session_state}
    for name, value in held.items():
        value = list(value) if isinstance(value, tuple) else value
        if st.session_state[name] != value:
            st.session_state[name] = value
    rest = {name: value for name, value in values.items() if name not in held}
    st.switch_page(f"views/{room}.py", query_params=query(room, **rest))
