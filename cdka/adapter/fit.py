"""The check that a configuration fits a model: every layer that does not is named in one refusal."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from peft.tuners.tuners_utils import _maybe_include_all_linear_layers, check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from cdka.adapter.config import CdkaConfig
from cdka.adapter.features import CONVOLUTIONS, features
from cdka.adapter.layer import CdkaLayer
from cdka.errors import CdkaError


def check_fit(config: CdkaConfig, model: nn.Module) -> None:
    """Resolves ``target_modules="all-linear"`` in place and raises CdkaError unless every target can be adapted.

    Warns of what is left out, and of layers that get components of their own by ``indivisible``.
    """
    everything = isinstance(config.target_modules, str) and config.target_modules.lower() == "all-linear"
    if everything:
        _maybe_include_all_linear_layers(config, model)
    uncalled = {
        f"{name}.out_proj".lstrip(".") for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)
    }
    if everything:
        _leave_out(config, model, uncalled)
    problems: dict[str, list[str]] = {}
    moved: dict[str, list[str]] = {}
    names = []
    for name, module in _targets(config, model):
        names.append(name)
        for problem in _problems(config, name, module, name in uncalled):
            problems.setdefault(problem, []).append(name)
        change = _moved(config, name, module)
        if change:
            moved.setdefault(change, []).append(name)
    if problems:
        raise CdkaError(" ".join(f"{problem} In {_listed(where)}." for problem, where in problems.items()))
    for change, where in moved.items():
        warnings.warn(
            f"indivisible={config.indivisible!r}: {change} in {_listed(where)}.", RuntimeWarning, stacklevel=2
        )
    keys = [*config.component_pattern, *config.rank_pattern]
    unused = [key for key in keys if not any(_matches(key, name) for name in names)]
    if unused and names:
        warnings.warn(
            "component_pattern and rank_pattern keys that match no adapted module are ignored: "
            f"{', '.join(map(repr, unused))}.",
            RuntimeWarning,
            stacklevel=2,
        )


def _leave_out(config: CdkaConfig, model: nn.Module, uncalled: set[str]) -> None:
    """Says what all-linear does not adapt: layers that are never called, and fused experts, which are no layers."""
    if uncalled & config.target_modules:
        config.target_modules -= uncalled
        warnings.warn(
            f"all-linear leaves out {', '.join(sorted(uncalled))}: torch.nn.MultiheadAttention uses its weights "
            "without calling the layer, so an adapter there would never take part.",
            stacklevel=3,
        )
    experts = [
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        if not isinstance(module, CONVOLUTIONS)
        for parameter, values in module.named_parameters(recurse=False)
        if values.dim() == 3 and "expert" in f"{name}.{type(module).__name__}".lower()
    ]
    if experts:
        warnings.warn(
            f"all-linear leaves out {_listed(experts)}: the weights of fused experts are parameters, not linear "
            "layers, and stay as they are.",
            stacklevel=3,
        )


def _targets(config: CdkaConfig, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name and not name.startswith(inside or ("\0",)):
            if check_target_module_exists(config, name):
                yield name, module
            if isinstance(module, CdkaLayer):
                inside += (f"{name}.",)


def _problems(config: CdkaConfig, name: str, module: nn.Module, uncalled: bool) -> list[str]:
    if uncalled:
        return ["torch.nn.MultiheadAttention uses this layer's weights without calling it, so it cannot be adapted."]
    size = features(module)
    if size is None:
        kind = type(module).__name__
        return [f"CDKA adapts linear layers (nn.Linear, Conv1D, quantised), convolutions and embeddings: got {kind}."]
    return [] if config.indivisible != "error" else config.components_for(name).problems(*size)


def _moved(config: CdkaConfig, name: str, module: nn.Module) -> str:
    """The effect of ``indivisible`` on a layer, in words; "" where its components fit or it cannot be adapted."""
    size = features(module)
    wanted = config.components_for(name)
    if size is None or config.indivisible == "error" or not wanted.problems(*size):
        return ""
    got = wanted.fitted(*size, config.indivisible)
    return f"({wanted}) does not fit {size} (out, in), left out" if got is None else f"({wanted}) becomes ({got})"


def _matches(key: str, name: str) -> bool:
    return get_pattern_key([key], name) == key


def _listed(names: list[str]) -> str:
    """The layers, those that differ in their index only written once with ``*``."""
    counts: dict[str, int] = {}
    for name in names:
        path = re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", "*", name)
        counts[path] = counts.get(path, 0) + 1
    return ", ".join(f"'{path}'" + (f" ({n} layers)" if n > 1 else "") for path, n in counts.items())
