"""A classifier's head and the data's labels: which output stands for which label, and whether the head may stay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HEAD_NAMES = (
    "classifier",
    "score",
    "head",
    "classification_head",
    "pre_classifier",
    "cls_classifier",
    "fc",
    "out_proj",
)
"""Names that transformers gives to the modules that make the logits of a classifier."""
CLASSIFIER_ENDINGS = ("ForSequenceClassification", "ForImageClassification", "ForImageClassificationWithTeacher")
_UNNAMED = re.compile(r"label[_ ]?\d+")
_LISTED = 4


@dataclass(frozen=True)
class HeadLabels:
    """The labels in the order of the model's outputs. ``kept`` is True where the checkpoint's own head makes them."""

    names: tuple[str, ...]
    kept: bool
    note: str = ""


def head_labels(config: Any, names: Sequence[str]) -> HeadLabels:
    """The order of outputs for data with the labels ``names``, and whether a trained head of the checkpoint stays.

    It stays where it names all of the data's labels (without regard to case), or has as many unnamed outputs as the
    data have numbered labels 0, 1, ...; the data's labels are then numbered as the head's outputs are. Else a new head
    is made and trained, whose outputs are in the order of ``names``.
    """
    names = tuple(names)
    if not _is_classifier(config):
        return HeadLabels(names, kept=False)
    outputs = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
    if all(_UNNAMED.fullmatch(_folded(name)) for name in outputs):
        numbered = names == tuple(map(str, range(len(outputs))))
        why = "" if numbered else "has unnamed outputs"
        return HeadLabels(names, numbered, "" if numbered else _new_head(why))
    places = {_folded(name): number for number, name in enumerate(outputs)}
    if len(places) == len(outputs) and all(_folded(name) in places for name in names):
        by_place = {places[_folded(name)]: name for name in names}
        order = tuple(by_place.get(number, name) for number, name in enumerate(outputs))
        if order == names:
            return HeadLabels(names, kept=True)
        return HeadLabels(order, True, f"labels are numbered as the checkpoint's head numbers them: {_listed(order)}.")
    return HeadLabels(names, False, _new_head(f"knows other labels ({_listed(outputs)})"))


def _is_classifier(config: Any) -> bool:
    architecture = (getattr(config, "architectures", None) or [""])[0]
    return architecture.endswith(CLASSIFIER_ENDINGS)


def _folded(name: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", name.strip().casefold()))


def _new_head(why: str) -> str:
    return f"the checkpoint's own head {why}: a new head is trained in its place."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def name_outputs(config: Any, names: Sequence[str]) -> None:
    """Writes the label names into a configuration, where saved models keep them."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
