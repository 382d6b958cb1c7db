"""From a picture to a model's input, as its preprocessor_config.json says. Free of torch; needs Pillow.

Resize, crop, rescale and normalise cover ViT, CLIP, DINO, BEiT, DeiT, Swin and ConvNeXT; they are done here because
the processors of transformers need torchvision.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cdka.errors import CdkaError

if TYPE_CHECKING:
    from PIL.Image import Image

BICUBIC, BILINEAR = 3, 2


@dataclass(frozen=True)
class Pixels:
    """How pictures become arrays. ``shortest`` resizes the shorter edge and keeps the proportions; ``resize`` gives
    (height, width); ``crop`` is cut from the middle afterwards; ``channels`` is 3 (colour) or 1 (grey)."""

    resize: tuple[int, int] | None
    shortest: int | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int

    def array(self, image: Image) -> np.ndarray:
        """(channels, height, width) in float32."""
        image = image.convert("RGB" if self.channels == 3 else "L")
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
        values = values[None] if self.channels == 1 else values.transpose(2, 0, 1)
        mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
        return (values * np.float32(self.scale) - mean) / std


def _sides(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, dict) and "height" in value:
        return int(value["height"]), int(value["width"])
    return None


def read_pixels(folder: Path, config: Any) -> Pixels:
    """How the model in ``folder`` wants its pictures; without a preprocessor_config.json, from its configuration:
    squares of its image size, scaled to [-1, 1]. Raises CdkaError for one that cannot be used."""
    vision = getattr(config, "vision_config", None) or config
    channels = int(getattr(vision, "num_channels", 3))
    side = _sides(getattr(vision, "image_size", None)) or (224, 224)
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        half = (0.5,) * channels
        return Pixels(side, None, None, BILINEAR, 1 / 255, half, half, channels)
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        size = given.get("size", side[0])
        shortest = size.get("shortest_edge") if isinstance(size, dict) else None
        if isinstance(size, int) and given.get("do_center_crop"):
            shortest = size
        normalise = given.get("do_normalize", True)
        mean = tuple(given.get("image_mean") or (0.5,) * channels) if normalise else (0.0,) * channels
        std = tuple(given.get("image_std") or (0.5,) * channels) if normalise else (1.0,) * channels
        return Pixels(
            resize=_sides(size) if given.get("do_resize", True) and shortest is None else None,
            shortest=int(shortest) if shortest and given.get("do_resize", True) else None,
            crop=_sides(given.get("crop_size")) if given.get("do_center_crop") else None,
            resample=int(given.get("resample", BILINEAR)),
            scale=float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0,
            mean=mean,
            std=std,
            channels=channels,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise CdkaError(f"preprocessor_config.json in {str(folder)!r} cannot be used: {error}.") from None
