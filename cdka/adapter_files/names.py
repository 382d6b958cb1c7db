"""The names of adapter tensors: prefix, module, field. One table of fields, one of prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cdka.errors import CdkaError

PEFT_PREFIX = "base_model.model."
STYLES = {
    "peft": (PEFT_PREFIX,),
    "kohya": ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_transformer_"),
    "takenoko": ("cdka_unet_",),
    "simpletuner": ("lycoris_",),
    "ai-toolkit": ("diffusion_model.",),
    "diffusers": ("transformer.", "unet.", "text_encoder.", "text_encoder_2."),
}
"""Prefixes before a module's path by their writer; one that ends in an underscore joins the path by underscores."""

PARTS = (
    "cdka_A",
    "cdka_B",
    "cdka_a",
    "cdka_b",
    "lora_A",
    "lora_B",
    "lora_embedding_A",
    "lora_embedding_B",
    "lora_down",
    "lora_up",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
    "alpha",
    "scalar",
    "cdka_r1",
    "cdka_r2",
    "cdka_rank",
    "cdka_in_block_size",
    "cdka_out_block_size",
    "cdka_allow_padding_flag",
)
"""Fields that are read."""
_TUCKER = "a convolution in Tucker form, whose delta W is no sum of Kronecker products of this size"
_DORA = "DoRA, which also rescales the base weight"
_NORM = "a change of norm parameters"
REFUSED = {
    **dict.fromkeys(("lokr_t1", "lokr_t2", "hada_t1", "hada_t2", "lora_mid"), _TUCKER),
    **dict.fromkeys(("dora_scale", "lora_magnitude_vector"), _DORA),
    **dict.fromkeys(("oft_blocks", "oft_diag", "oft_R"), "OFT, which rotates the base weight"),
    **dict.fromkeys(("w_norm", "b_norm"), _NORM),
    **dict.fromkeys(("diff", "diff_b"), "a full difference of weights, which is no adapter"),
    **dict.fromkeys(("a1", "a2", "b1", "b2"), "GLoRA, which also scales the base weight"),
    "on_input": "IA3, which scales activations",
    "lora_B.bias": "a LoRA with a bias of its own (lora_bias=True)",
}
"""Fields of adapters that are no sum of Kronecker products, and the reason in words."""
_FIELD = re.compile(
    r"^(?P<module>.+)\.(?P<field>"
    + "|".join(sorted(map(re.escape, [*PARTS, *REFUSED]), key=len, reverse=True))
    + r")(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?$"
)


class Key(NamedTuple):
    """A tensor's name taken apart: ``diffusion_model.`` + ``blocks.0.q`` + ``lora_A``."""

    prefix: str
    module: str
    field: str


def parse(name: str) -> Key | None:
    """The parts of an adapter tensor's name; None for any other tensor, such as a trained head."""
    match = _FIELD.match(name)
    if not match:
        return None
    for prefixes in STYLES.values():
        for prefix in prefixes:
            if match["module"].startswith(prefix):
                return Key(prefix, match["module"].removeprefix(prefix), match["field"])
    return Key("", match["module"], match["field"])


def style_of(prefix: str) -> str:
    """The writer of this prefix: a key of ``STYLES``, or ``plain``."""
    return next((style for style, prefixes in STYLES.items() if prefix in prefixes), "plain")


def joins_by_underscore(prefix: str) -> bool:
    """True where a prefix is followed by the path with underscores in place of dots."""
    return prefix.endswith("_")


def spelled(prefix: str, path: str) -> str:
    """The module's part of a tensor's name: the path as this prefix wants it."""
    return prefix + (path.replace(".", "_") if joins_by_underscore(prefix) else path)


def dotted(flat: Iterable[str], paths: Iterable[str]) -> dict[str, str]:
    """Module paths for names joined by underscores, looked up among the paths of the base model.

    Raises CdkaError for names that the model has not, or has twice.
    """
    known: dict[str, list[str]] = {}
    for path in paths:
        known.setdefault(path.replace(".", "_"), []).append(path)
    found, missing = {}, []
    for name in flat:
        matches = known.get(name, [])
        if len(matches) == 1:
            found[name] = matches[0]
        else:
            missing.append(name)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CdkaError(
            f"each module of the adapter must be one layer of the model: {', '.join(map(repr, missing[:3]))}{more} "
            "is none of them, or more than one. Give the model that the adapter was trained on."
        )
    return found


def pattern_value(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """The value for a module by PEFT's rule: the first key that matches the whole name or its end after a dot."""
    for key, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


def natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key that puts layer 2 before layer 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
