"""Which linear layers of a model are adapted: by role, by name, or by regular expression. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cdka.errors import CdkaError, unknown
from cdka.models.shapes import LinearShape, ModelShapes

ROLE_TARGETS = ("all-linear", "attention", "mlp")
NEVER_BY_ROLE = ("head", "embedding")
"""Roles left out unless a layer is named: a head is trained in full or not at all."""
_REGEX_SIGNS = re.compile(r"[\\^$*+?()\[\]{}|]")


def select(shapes: ModelShapes, target_modules: str | Iterable[str] = "all-linear") -> tuple[LinearShape, ...]:
    """The linear layers that ``target_modules`` names, in the model's order.

    ``"all-linear"`` is every linear layer but heads and embeddings; ``"attention"`` and ``"mlp"`` go by role; other
    names match as PEFT's do (the full path, or its end after a dot), given as a list or joined by commas; one string
    with regular-expression signs is matched in full against the module paths, as PEFT does, and a kind of layer is
    taken when its first layer's path or its path with ``*`` matches. Raises CdkaError for a name that matches nothing,
    and for a model without linear layers.
    """
    if not shapes.linears:
        raise CdkaError(f"an adapter needs linear layers: {shapes.name!r} has none. Choose a transformer model.")
    names = _names(target_modules)
    chosen: set[LinearShape] = set()
    for name in names:
        matched = _matching(shapes, name)
        if not matched:
            raise _no_match(shapes, name)
        chosen.update(matched)
    return tuple(linear for linear in shapes.linears if linear in chosen)


def target_names(shapes: ModelShapes) -> dict[str, list[str]]:
    """The names one can pick, by role: ``{"attention": ["q_proj", ...], "mlp": [...]}``; roles without layers absent."""
    found: dict[str, list[str]] = {}
    for linear in shapes.linears:
        names = found.setdefault(linear.role, [])
        name = _shortest_name(shapes, {linear})
        if name not in names:
            names.append(name)
    return found


def peft_targets(shapes: ModelShapes, target_modules: str | Iterable[str] = "all-linear") -> list[str] | str:
    """What to hand to PEFT as ``target_modules`` so that exactly the selected layers are adapted.

    A list of name endings where they tell the selected layers from all others, else one regular expression over
    full paths (for BERT, whose pooler is called ``dense`` like the layers of its MLP).
    """
    if isinstance(target_modules, str) and _REGEX_SIGNS.search(target_modules):
        select(shapes, target_modules)
        return target_modules
    chosen = set(select(shapes, target_modules))
    endings = dict.fromkeys(linear.name for linear in shapes.linears if linear in chosen)
    if all(linear in chosen for linear in shapes.linears if linear.name in endings):
        return list(endings)
    patterns = [re.escape(path).replace(r"\*", r"\d+") for path in dict.fromkeys(s.path for s in chosen)]
    return r"(?:.*\.)?(?:" + "|".join(sorted(patterns)) + ")"


def _names(target_modules: str | Iterable[str]) -> list[str]:
    if isinstance(target_modules, str):
        whole = bool(_REGEX_SIGNS.search(target_modules))
        parts = [target_modules] if whole else target_modules.split(",")
    else:
        parts = list(target_modules)
    names = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    if not names or len(names) != len(parts):
        raise CdkaError(
            f"target_modules must name layers: got {target_modules!r}. Examples: all-linear, attention, q_proj,v_proj."
        )
    return names


def _matching(shapes: ModelShapes, name: str) -> list[LinearShape]:
    if name == "all-linear":
        return [linear for linear in shapes.linears if linear.role not in NEVER_BY_ROLE]
    if name in ("attention", "mlp"):
        by_role = [linear for linear in shapes.linears if linear.role == name]
        if by_role:
            return by_role
    if _REGEX_SIGNS.search(name) and "*." not in name.replace(".*.", ""):
        try:
            pattern = re.compile(name)
        except re.error as error:
            raise CdkaError(
                f"target_modules {name!r} is not a regular expression: {error}. Check the brackets."
            ) from None
        return [
            linear for linear in shapes.linears
            if pattern.fullmatch(linear.path) or pattern.fullmatch(linear.path.replace("*", "0"))
        ]  # fmt: skip
    return [linear for linear in shapes.linears if linear.path == name or linear.path.endswith(f".{name}")]


def _no_match(shapes: ModelShapes, name: str) -> CdkaError:
    names = list(dict.fromkeys([*ROLE_TARGETS, *(linear.name for linear in shapes.linears)]))
    if _REGEX_SIGNS.search(name):
        return CdkaError(
            f"target_modules {name!r} matches no linear layer of {shapes.name!r}. Known: {', '.join(names)}."
        )
    return unknown("target module", name, names, where=f"in {shapes.name!r}", next_step=f"Known: {', '.join(names)}.")


def _shortest_name(shapes: ModelShapes, group: set[LinearShape]) -> str:
    (linear,) = group
    parts = linear.path.split(".")
    for length in range(1, len(parts) + 1):
        ending = ".".join(parts[-length:])
        if {s.role for s in shapes.linears if s.path == ending or s.path.endswith(f".{ending}")} == {linear.role}:
            return ending
    return linear.path
