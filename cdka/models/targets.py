"""Selection of the linear layers to adapt: by role, by name, or by regular expression. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from cdka.errors import CdkaError, unknown
from cdka.models.shapes import LinearShape, ModelShapes

ROLE_TARGETS = ("all-linear", "attention", "mlp")
NEVER_BY_ROLE = ("head", "embedding")
"""Roles left out unless a layer is named: a head is trained in full or not at all."""
MAX_SUBLAYERS = 8
"""Largest second index in a path that is tried against an expression."""
_REGEX_SIGNS = re.compile(r"[\\^$*+?()\[\]{}|]")


def select(shapes: ModelShapes, target_modules: str | Iterable[str] = "all-linear") -> tuple[LinearShape, ...]:
    """The linear layers that ``target_modules`` names, in the model's order.

    ``"all-linear"`` is every linear layer but heads and embeddings; ``"attention"`` and ``"mlp"`` go by role; other
    names match as PEFT's do (the full path, or its end after a dot), given as a list or joined by commas; a name with
    regular-expression signs is matched in full against the modules' paths, as PEFT does with a string. An expression
    may take some layer indices only; the count of the layer kind is then what it takes. Raises CdkaError for a name
    that matches nothing, and for a model without linear layers.
    """
    if not shapes.linears:
        raise CdkaError(f"an adapter needs linear layers: {shapes.name!r} has none. Choose a transformer model.")
    taken: dict[LinearShape, int] = {}
    names = _names(shapes, target_modules)
    expressions = [name for name in names if _is_expression(shapes, name)]
    if len(expressions) > 1:  # together they take each layer once
        names.append("|".join(f"(?:{name})" for name in expressions))
    for name in names:
        matched = _matching(shapes, name)
        if not matched:
            raise _no_match(shapes, name)
        for linear, count in matched.items():
            taken[linear] = max(count, taken.get(linear, 0))
    return tuple(replace(linear, count=taken[linear]) for linear in shapes.linears if linear in taken)


def target_names(shapes: ModelShapes) -> dict[str, list[str]]:
    """The names one can pick, by role: ``{"attention": ["q_proj", ...], "mlp": [...]}``."""
    found: dict[str, list[str]] = {}
    for linear in shapes.linears:
        names = found.setdefault(linear.role, [])
        name = _shortest_name(shapes, linear)
        if name not in names:
            names.append(name)
    return found


def peft_targets(shapes: ModelShapes, target_modules: str | Iterable[str] = "all-linear") -> list[str] | str:
    """PEFT's ``target_modules`` for exactly the selected layers.

    A list of name endings where they tell the selected layers from all others, else one regular expression over
    full paths (for BERT, whose pooler is called ``dense`` like the layers of its MLP, and for Swin V2, which has layers
    called by a number).
    """
    chosen = {linear.path for linear in select(shapes, target_modules)}
    whole = _whole(chosen)
    names = _names(shapes, target_modules)
    expressions = [name for name in names if _is_expression(shapes, name)]
    if expressions:
        others = [name for name in names if name not in expressions]
        if others:
            expressions.append(_whole({linear.path for linear in select(shapes, others)}))
        either = "|".join(f"(?:{name})" for name in expressions)
        return rf"(?=(?:{either})$){whole}"  # linear layers only, whatever else an expression matches
    endings = dict.fromkeys(linear.name for linear in shapes.linears if linear.path in chosen)
    if "*" not in endings and all(linear.path in chosen for linear in shapes.linears if linear.name in endings):
        return list(endings)
    return whole


def _whole(paths: Iterable[str]) -> str:
    """One expression for modules at these paths, whatever wraps the model."""
    patterns = "|".join(re.escape(path).replace(r"\*", r"\d+") for path in sorted(paths))
    return rf"(?:.*\.)?(?:{patterns})"


def is_expression(name: str) -> bool:
    """True for a name with signs that only a regular expression (or a path with ``*`` for layer indices) has."""
    return bool(_REGEX_SIGNS.search(name))


def _is_expression(shapes: ModelShapes, name: str) -> bool:
    """True for a regular expression, False for a path of the model (which has ``*`` for layer indices)."""
    return is_expression(name) and not _ending_with(shapes, name)


def _names(shapes: ModelShapes, target_modules: str | Iterable[str]) -> list[str]:
    if isinstance(target_modules, str):
        parts = [target_modules] if _is_expression(shapes, target_modules) else target_modules.split(",")
    else:
        parts = list(target_modules)
    names = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    if not names or len(names) != len(parts):
        raise CdkaError(
            f"target_modules must name layers: got {target_modules!r}. Examples: all-linear, attention, q_proj,v_proj."
        )
    return names


def _ending_with(shapes: ModelShapes, name: str) -> list[LinearShape]:
    return [linear for linear in shapes.linears if linear.path == name or linear.path.endswith(f".{name}")]


def _matching(shapes: ModelShapes, name: str) -> dict[LinearShape, int]:
    """The layers that a name takes, and how many of each."""
    if name == "all-linear":
        return {linear: linear.count for linear in shapes.linears if linear.role not in NEVER_BY_ROLE}
    by_role = [linear for linear in shapes.linears if linear.role == name and name in ROLE_TARGETS]
    if by_role or not _is_expression(shapes, name):
        return {linear: linear.count for linear in by_role or _ending_with(shapes, name)}
    try:
        pattern = re.compile(name)
    except re.error as error:
        raise CdkaError(f"target_modules {name!r} must be a regular expression: {error}. Check it.") from None
    counts = {linear: _count_matching(pattern, linear) for linear in shapes.linears}
    return {linear: count for linear, count in counts.items() if count}


def paths_of(linear: LinearShape) -> Iterator[list[str]]:
    """The paths that each of the ``count`` layers may have, its indices filled in.

    The first index tells the layers apart; a second one (T5's sub-layer) is the same in all, so it is only guessed.
    """
    first, *rest = linear.path.split(".*", 1)
    if not rest:
        yield from ([linear.path] for _ in range(linear.count))
        return
    inner = range(MAX_SUBLAYERS) if "*" in rest[0] else range(1)
    for i in range(linear.count):
        yield [f"{first}.{i}" + rest[0].replace("*", str(j)) for j in inner]


def _count_matching(pattern: re.Pattern[str], linear: LinearShape) -> int:
    return sum(any(pattern.fullmatch(path) for path in variants) for variants in paths_of(linear))


def notes_on(shapes: ModelShapes) -> tuple[str, ...]:
    """Notes on what no adapter of this model reaches: the experts of a mixture that are no linear layers."""
    experts = dict(shapes.details).get("expert_params")
    return (experts_note(experts, shapes.base_params),) if experts else ()


def experts_note(expert_params: int, base_params: int) -> str:
    """The sentence that says which part of a mixture of experts an adapter does not reach."""
    return (
        f"the experts are not adapted: {expert_params / base_params:.0%} of the weights lie in fused expert layers, "
        "which are not linear layers; the adapter reaches the rest."
    )


def _no_match(shapes: ModelShapes, name: str) -> CdkaError:
    names = list(dict.fromkeys([*ROLE_TARGETS, *(linear.name for linear in shapes.linears)]))
    known = f"Known: {', '.join(names)}."
    if name in ROLE_TARGETS:
        fused = " (fused experts are not linear layers)" if "expert_params" in dict(shapes.details) else ""
        return CdkaError(f"target_modules {name!r} needs linear layers of that kind: {shapes.name!r} has none{fused}.")
    if is_expression(name):
        return CdkaError(f"target_modules {name!r} matches no linear layer of {shapes.name!r}. {known}")
    return unknown("target module", name, names, where=f"in {shapes.name!r}", next_step=known)


def _shortest_name(shapes: ModelShapes, linear: LinearShape) -> str:
    """The shortest ending that selects layers of this role only."""
    parts = linear.path.split(".")
    for length in range(1, len(parts) + 1):
        ending = ".".join(parts[-length:])
        if {other.role for other in _ending_with(shapes, ending)} == {linear.role}:
            return ending
    return linear.path
