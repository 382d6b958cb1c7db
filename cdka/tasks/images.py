"""Image classification: a data set of the Hub, with pictures read when a batch needs them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoConfig

from cdka.errors import CdkaError
from cdka.models.obtain import locate
from cdka.tasks import hub
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.data import TaskData
from cdka.tasks.objectives import Classification
from cdka.tasks.options import check_known
from cdka.tasks.pixels import Pixels, read_pixels
from cdka.tasks.splits import LazySplit

if TYPE_CHECKING:
    from PIL.Image import Image

    from cdka.finetune.spec import RunSpec

SETS: dict[str, tuple[hub.Source, str, str]] = {
    "cifar10": (hub.Source("uoft-cs/cifar10", ("plain_text/*.parquet",)), "img", "label"),
    "cifar100": (hub.Source("uoft-cs/cifar100", ("cifar100/*.parquet",)), "img", "fine_label"),
    "food101": (hub.Source("ethz/food101", ("data/*.parquet",)), "image", "label"),
}
"""(source, image column, label column) by task name."""
OPTIONS = (
    "mirror", "dataset", "image_column", "label_column", "train_examples", "validation_examples", "test_examples",
)  # fmt: skip
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


def lazy_split(
    rows: Sequence[int], labels: Sequence[int], offset: int, open_image: Callable[[int], Image], pixels: Pixels
) -> LazySplit:
    """A split whose pictures are opened, by the row's number, when a batch is taken."""
    numbers = np.asarray(rows)

    def read(chosen: torch.Tensor) -> dict[str, torch.Tensor]:
        pictures = [pixels.array(open_image(int(numbers[row]))) for row in chosen.tolist()]
        return {"pixel_values": torch.from_numpy(np.stack(pictures))}

    return LazySplit(torch.tensor(labels, dtype=torch.long), numbers + offset, read)


def pixels_for(model: str) -> Pixels:
    """How the model called ``model`` wants its pictures. Raises CdkaError for one that does not look at pictures."""
    folder = locate(model)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not (getattr(config, "image_size", None) or getattr(config, "vision_config", None)):
        raise CdkaError(f"an image task needs a model that looks at images: got {model!r} ({config.model_type}).")
    return read_pixels(folder, config)


def load(info: TaskInfo, spec: RunSpec) -> TaskData:
    """Train and validation from the training split; test from the test split (or the validation split: see notes)."""
    source, image, label = _set(info, spec)
    sizes = hub.sizes(spec, train=None, validation=VALIDATION_EXAMPLES, test=None)
    taught = hub.read(source, spec, "train", (image, label))
    names = hub.split_names(source, spec)
    judged_name = next((name for name in ("test", "validation", "valid") if name in names), None)
    pixels = pixels_for(spec.model)
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
        ("train", taught, train, 0), ("validation", taught, validation, 0), ("test", judged, test, offset),
    ):  # fmt: skip
        rows = np.sort(rows)
        labels = np.asarray(table[label])[rows].tolist()
        splits[name] = lazy_split(rows, labels, start, _opener(table, image), pixels)
    return TaskData(
        objective=Classification(), num_labels=len(words), notes=notes, label_names=tuple(words), **splits
    )  # fmt: skip


def _opener(table: Any, column: str) -> Callable[[int], Image]:
    return lambda row: table[row][column]
