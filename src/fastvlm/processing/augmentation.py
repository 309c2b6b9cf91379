"""Random changes of a picture that can be written down and repeated (MobileCLIP's reinforcement, RandAugment).

The operations and their magnitudes are those of RandAugment (Cubuk et al. 2019) as torchvision has them, by the
numbers that DataCompDR stores.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from fastvlm.batches import UInt8Array
from fastvlm.errors import DataError

OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""In the order of their stored numbers."""

_SIGNED = frozenset(OPERATIONS[1:10])
_NUM_OPERATIONS = 2
_STRENGTH = 9 / 30
"""Of the largest magnitude: RandAugment's ninth of 31 bins."""
_CROP_AREA, _CROP_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
_CROP_ATTEMPTS = 10


@dataclass(frozen=True)
class Augmentation:
    """A crop (top, left, height, width) in the picture's own pixels, then operations with a magnitude each."""

    crop: tuple[int, int, int, int]
    operations: tuple[tuple[str, float], ...] = ()

    def apply(self, image: UInt8Array, *, size_px: int) -> UInt8Array:
        """Crop, resize to a square and change a picture of H x W x 3."""
        top, left, height, width = self.crop
        box = (left, top, left + width, top + height)
        # Not `resize` with a box, whose border would see what was cut off.
        picture = Image.fromarray(image).crop(box).resize((size_px, size_px), Image.Resampling.BICUBIC)
        for name, magnitude in self.operations:
            picture = _CHANGES[name](picture, magnitude)
        return np.asarray(picture)


def whole(image: UInt8Array) -> Augmentation:
    """The largest centred square, unchanged, for evaluation."""
    height, width = image.shape[:2]
    side = min(height, width)
    return Augmentation(((height - side) // 2, (width - side) // 2, side, side))


def draw(image: UInt8Array, generator: random.Random, *, size_px: int) -> Augmentation:
    """Draw a random resized crop of a picture, and two operations for the square of size_px that it becomes."""
    height, width = image.shape[:2]
    operations = [_draw_operation(generator, size_px) for _ in range(_NUM_OPERATIONS)]
    return Augmentation(_draw_crop(height, width, generator), tuple(operations))


def stored(parameters: Any) -> Augmentation:
    """Read what DataCompDR stores of one augmentation: a crop, and pairs of an operation's number and a magnitude.

    Raises DataError for anything else.
    """
    try:
        crop, operations = parameters
        top, left, height, width = (int(value) for value in crop)
        pairs = tuple((OPERATIONS[int(number)], float(magnitude)) for number, magnitude in operations or ())
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"Expected a crop and operations with magnitudes, got {parameters!r:.80}.") from error
    if min(height, width) < 1 or min(top, left) < 0:
        raise DataError(f"Expected a crop inside of the picture, got {parameters!r:.80}.")
    return Augmentation((top, left, height, width), pairs)


def _draw_crop(height: int, width: int, generator: random.Random) -> tuple[int, int, int, int]:
    """A crop of random area and aspect; the largest of an allowed aspect where none is found."""
    for _ in range(_CROP_ATTEMPTS):
        area = height * width * generator.uniform(*_CROP_AREA)
        aspect = math.exp(generator.uniform(*map(math.log, _CROP_ASPECT)))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top, left = generator.randint(0, height - crop_height), generator.randint(0, width - crop_width)
            return top, left, crop_height, crop_width
    crop_width = min(width, round(height * _CROP_ASPECT[1]))
    crop_height = min(height, round(width / _CROP_ASPECT[0]))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _draw_operation(generator: random.Random, side_px: int) -> tuple[str, float]:
    name = generator.choice(OPERATIONS)
    largest = {
        "ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331 * side_px, "TranslateY": 150 / 331 * side_px,
        "Rotate": 30.0, "Brightness": 0.9, "Color": 0.9, "Contrast": 0.9, "Sharpness": 0.9,
    }  # fmt: skip
    if name == "Posterize":
        return name, 8 - round(4 * _STRENGTH)
    if name == "Solarize":
        return name, 255 * (1 - _STRENGTH)
    magnitude = largest.get(name, 0.0) * _STRENGTH
    return name, -magnitude if name in _SIGNED and generator.random() < 0.5 else magnitude


def _moved(coefficients: Sequence[float]) -> Callable[[Image.Image], Image.Image]:
    def move(picture: Image.Image) -> Image.Image:
        return picture.transform(picture.size, Image.Transform.AFFINE, tuple(coefficients), Image.Resampling.NEAREST)

    return move


def _enhanced(enhancement: Callable[[Image.Image], Any]) -> Callable[[Image.Image, float], Image.Image]:
    def enhance(picture: Image.Image, magnitude: float) -> Image.Image:
        enhanced: Image.Image = enhancement(picture).enhance(1 + magnitude)
        return enhanced

    return enhance


_CHANGES: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda picture, _: picture,
    # What is moved where: PIL asks for the place in the old picture that a place in the new one comes from.
    "ShearX": lambda picture, magnitude: _moved((1, magnitude, 0, 0, 1, 0))(picture),
    "ShearY": lambda picture, magnitude: _moved((1, 0, 0, magnitude, 1, 0))(picture),
    "TranslateX": lambda picture, magnitude: _moved((1, 0, -int(magnitude), 0, 1, 0))(picture),
    "TranslateY": lambda picture, magnitude: _moved((1, 0, 0, 0, 1, -int(magnitude)))(picture),
    "Rotate": lambda picture, magnitude: picture.rotate(magnitude, Image.Resampling.NEAREST),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "Posterize": lambda picture, magnitude: ImageOps.posterize(picture, int(magnitude)),
    "Solarize": lambda picture, magnitude: ImageOps.solarize(picture, int(magnitude)),
    "AutoContrast": lambda picture, _: ImageOps.autocontrast(picture),
    "Equalize": lambda picture, _: ImageOps.equalize(picture),
}
