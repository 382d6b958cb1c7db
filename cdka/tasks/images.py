"""Image classification: a data set of the Hub, with pictures read when a batch needs them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from cdka.errors import CdkaError
from cdka.tasks import hub
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.options import check_known
from cdka.tasks.rows import PictureRows, PictureSplit
from cdka.tasks.scores import label_scores

if TYPE_CHECKING:
    from PIL.Image import Image

    from cdka.runs.spec import RunSpec

SETS: dict[str, tuple[hub.Source, str, str]] = {
    "cifar10": (hub.Source("uoft-cs/cifar10", ("plain_text/*.parquet",)), "img", "label"),
    "cifar100": (hub.Source("uoft-cs/cifar100", ("cifar100/*.parquet",)), "img", "fine_label"),
    "food101": (hub.Source("ethz/food101", ("data/*.parquet",)), "image", "label"),
}
"""(source, image column, label column) by task name."""
OPTIONS = (
    "mirror",
    "dataset",
    "image_column",
    "label_column",
    "train_examples",
    "validation_examples",
    "test_examples",
)
VALIDATION_EXAMPLES = 500


def _set(info: TaskInfo, spec: RunSpec) -> tuple[hub.Source, str, str]:
    options = spec.task_options
    check_known(options, OPTIONS, spec.task)
    if info.name in SETS:
        return SETS[info.name]
    if "dataset" not in options:
        raise CdkaError(f"task {info.name!r} needs a data set: --task-option dataset=OWNER/NAME (a Hub id or a folder)")
    source = hub.Source(str(options["dataset"]), ())
    return source, str(options.get("image_column", "image")), str(options.get("label_column", "label"))


def fetch(info: TaskInfo, spec: RunSpec) -> Generator[dict[str, Any], None, None]:
    """Fetch the data set; yields the progress."""
    yield from hub.fetch((_set(info, spec)[0],), spec)


def read(info: TaskInfo, spec: RunSpec) -> PictureRows:
    """Train and validation from the training split; test from the test split (or the validation split: see notes)."""
    source, image, label = _set(info, spec)
    sizes = hub.sizes(spec, train=None, validation=VALIDATION_EXAMPLES, test=None)
    taught = hub.read(source, spec, "train", (image, label))
    names = hub.split_names(source, spec)
    judged_name = next((name for name in ("test", "validation", "valid") if name in names), None)
    words = getattr(taught.features[label], "names", None)
    if words is None:
        raise CdkaError(f"column {label!r} of {source.where(spec.task_options)!r} must be class labels.")
    train, validation = hub.held_out(len(taught), sizes["validation"], sizes["train"])
    notes: tuple[str, ...] = ()
    if judged_name is None:
        judged, offset = taught, 0
        test, train = np.split(np.random.default_rng(hub.SEED).permutation(train), [len(validation)])
        notes = ("The data set has no test split: one was held out of its training split.",)
    else:
        judged, offset = hub.read(source, spec, judged_name, (image, label)), len(taught)
        test = hub.subset(len(judged), sizes["test"])
    splits = {}
    for name, table, rows, start in (
        ("train", taught, train, 0),
        ("validation", taught, validation, 0),
        ("test", judged, test, offset),
    ):
        rows = np.sort(rows)
        labels = np.asarray(table[label])[rows].tolist()
        splits[name] = PictureSplit(labels, rows + start, _opener(table, image, rows))
    return PictureRows(splits, tuple(words), label_scores, notes)


def _opener(table: Any, column: str, rows: np.ndarray) -> Callable[[int], Image]:
    return lambda i: table[int(rows[i])][column]
