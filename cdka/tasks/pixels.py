"""Open a picture as it is meant to be seen, and make a model's input of it. Free of torch; needs Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cdka.errors import CdkaError

if TYPE_CHECKING:
    from PIL.Image import Image

BILINEAR = 2
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def open_picture(file: Path) -> Image:
    """The whole picture in 8 bits, upright: decoded, turned as its EXIF says, 16 bits brought to 8.

    Raises OSError and others of Pillow's for a file that cannot be decoded.
    """
    from PIL import Image

    with Image.open(file) as image:
        image.load()
        return upright(image)


def upright(image: Image) -> Image:
    """The picture turned as its EXIF orientation says, in a mode of 8 bits a channel."""
    from PIL import ImageOps

    frames = getattr(image, "n_frames", 1)
    turned = eight_bits(ImageOps.exif_transpose(image))
    if frames > 1:
        turned.n_frames = frames
    return turned


def eight_bits(image: Image) -> Image:
    """The picture with 8 bits a channel. 16-bit grey is divided by 257, so that its whole range is kept.

    Grey in 32 bits counts as 16-bit where its values fit, and as 8-bit where those do; floats in [0, 1] are scaled.
    Raises CdkaError for other ranges: scaling each picture by its own would make them incomparable.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low >= 0 and high <= 65535:
        if image.mode.startswith("I;16") or high > 255:
            values = values / 257
    else:
        raise CdkaError(f"its values go from {low:g} to {high:g}: they must lie in 0 to 65,535, or be floats in 0 to 1")
    return Image.fromarray(np.rint(values).astype(np.uint8), "L")


@dataclass(frozen=True)
class Pixels:
    """The preprocessing of a model that says no more of its pictures than their size.

    ``shortest`` resizes the shorter edge and keeps the proportions; ``resize`` gives (height, width); ``crop`` is cut
    from the middle afterwards; ``channels`` is 3 (colour), 1 (grey), 4 (colour with transparency) or another number,
    for which the picture must have just as many.
    """

    resize: tuple[int, int] | None
    shortest: int | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int

    def array(self, image: Image) -> np.ndarray:
        """(channels, height, width) in float32. Raises CdkaError for a number of channels that no picture has."""
        image = with_channels(upright(image), self.channels)
        if self.shortest is not None:
            ratio = self.shortest / min(image.size)
            width, height = (self.shortest if edge == min(image.size) else int(edge * ratio) for edge in image.size)
            image = image.resize((width, height), self.resample)
        elif self.resize is not None:
            image = image.resize((self.resize[1], self.resize[0]), self.resample)
        if self.crop is not None:
            height, width = self.crop
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        values = np.asarray(image, dtype=np.float32)
        values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
        mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
        return (values * np.float32(self.scale) - mean) / std


def with_channels(image: Image, channels: int) -> Image:
    """The picture with 1, 3 or 4 channels. Raises CdkaError for another number."""
    if channels not in _MODES:
        raise CdkaError(
            f"a picture has 1, 3 or 4 channels: the model takes {channels}. Choose a model for colour pictures."
        )
    return image.convert(_MODES[channels])
