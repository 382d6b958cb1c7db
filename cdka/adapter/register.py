"""Makes stock PEFT know the method CDKA; the one place that depends on how PEFT keeps its methods.

PEFT finds a method's classes through dictionaries keyed by ``PeftType``, an enumeration with string values. It has
no plug-in path, and ``register_peft_method`` asks for a member of that enumeration; a member of our own string
enumeration hashes and compares like one, so the dictionaries can be filled and nothing of PEFT's is patched.
"""

from __future__ import annotations

import enum

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.peft_types import PeftType

PREFIX = "cdka_"
"""Every adapter parameter's name starts with this; transformers derives it from the name of the method."""


class CdkaPeftType(str, enum.Enum):  # noqa: UP042 - PEFT reads the part after the dot of str(), as Enum writes it
    """The name of the method in ``adapter_config.json``."""

    CDKA = "CDKA"


PEFT_TYPE = getattr(PeftType, "CDKA", CdkaPeftType.CDKA)


def register(config_cls: type, model_cls: type) -> bool:
    """Tells PEFT the classes of CDKA; returns False, changing nothing, where PEFT knows the method already."""
    if PEFT_TYPE in PEFT_TYPE_TO_TUNER_MAPPING:
        return False
    PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = config_cls
    PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = model_cls
    PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = PREFIX
    return True
