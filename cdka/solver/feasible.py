"""Values of r1 and r2 that fit every module, and the reasons why others do not, with the nearest ones that do."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.solver.columns import common_values


@dataclass(frozen=True)
class Obstacle:
    """One value that does not fit: the dimension, every module that stands in its way, the values nearby that fit."""

    name: str
    value: int
    axis: str
    modules: tuple[tuple[str, int], ...]
    nearest: tuple[int, ...]

    def __str__(self) -> str:
        by_size: dict[int, list[str]] = {}
        for path, size in self.modules:
            by_size.setdefault(size, []).append(path.rsplit(".", 1)[-1])
        places = [f"{self.axis}={size} in {_listed(names)}" for size, names in by_size.items()]
        near = " or ".join(str(value) for value in self.nearest)
        return (
            f"{self.name} must divide {self.axis} of every module: got {self.name}={self.value}, {', '.join(places)}. "
            f"Nearest that fit: {near}."
        )


def _listed(names: Sequence[str]) -> str:
    """Names without repetition, at most three of them."""
    names = [repr(name) for name in dict.fromkeys(names)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def obstacles(linears: Sequence[LinearShape], components: Components) -> list[Obstacle]:
    """Reasons why these components do not fit the layers; empty where they fit."""
    r1_values, r2_values = common_values(linears)
    found = []
    for name, value, axis, fitting in (
        ("r1", components.r1, "out_features", r1_values),
        ("r2", components.r2, "in_features", r2_values),
    ):
        modules = tuple((s.path, getattr(s, axis)) for s in linears if getattr(s, axis) % value)
        if modules:
            found.append(Obstacle(name, value, axis, modules, nearest_values(fitting, value)))
    return found


def check_fits(linears: Sequence[LinearShape], components: Components) -> None:
    """Raises CdkaError naming every obstacle at once unless the components fit all layers."""
    found = obstacles(linears, components)
    if found:
        raise CdkaError(" ".join(str(obstacle) for obstacle in found))


def nearest_values(fitting: Sequence[int], value: int) -> tuple[int, ...]:
    """The fitting values just below and just above ``value``."""
    position = bisect_left(fitting, value)
    if position < len(fitting) and fitting[position] == value:
        return (value,)
    return tuple(fitting[max(0, position - 1) : position + 1])


def limiting_modules(linears: Sequence[LinearShape]) -> list[str]:
    """Sentences on modules that keep r1 or r2 from larger values; empty where every module allows the same.

    A module is named where leaving it out would let more values fit.
    """
    if len(linears) < 2:
        return []
    r1_values, r2_values = common_values(linears)
    sentences = []
    for linear in linears:
        others = [other for other in linears if other is not linear]
        wider_r1, wider_r2 = common_values(others)
        gains = [
            f"{name} to {values[-1]} ({axis} = {getattr(linear, axis):,}); without it {name} could be up to {wider[-1]}"
            for name, axis, wider, values in (
                ("r1", "out_features", wider_r1, r1_values),
                ("r2", "in_features", wider_r2, r2_values),
            )
            if len(wider) > len(values)
        ]
        if gains:
            sentences.append(f"{linear.path} limits {', and '.join(gains)}.")
    return sentences
