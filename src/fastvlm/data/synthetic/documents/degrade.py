"""What scanners, cameras and printers do to a document, on many pictures at once as arrays.

Everything here leaves each mark where it is: what turns or bends a document belongs to its drawing, which knows where
its characters stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from fastvlm.batches import Float32Array, UInt8Array

_SHARES = {"coarse": 0.2, "blur": 0.2, "fade": 0.3, "shade": 0.25, "noise": 0.3, "specks": 0.08, "jpeg": 0.15}
"""How many pictures each of these happens to."""


def degrade(
    pixels: UInt8Array, generator: np.random.Generator, *, keeps_colors: Sequence[bool] | None = None
) -> UInt8Array:
    """Worsen some of N x H x W x 3 pictures, each in its own way; returns new pixels of the same shape.

    coarse: fewer pixels, enlarged again. blur: out of focus. fade: less contrast. shade: light from one side. noise: of
    a sensor. specks: dust. jpeg: compressed, one picture at a time. keeps_colors: for each picture, whether it may not
    fade, since a colour would get another name.
    """
    chosen = {name: np.flatnonzero(generator.random(len(pixels)) < share) for name, share in _SHARES.items()}
    pictures = pixels.astype(np.float32)
    for index in chosen["coarse"]:
        pictures[index] = _coarse(pixels[index], generator.uniform(0.55, 0.9))
    own = chosen["blur"]
    if len(own):
        pictures[own] = _blurred(pictures[own], generator.uniform(0.05, 0.3, (len(own), 1, 1, 1)).astype(np.float32))
    own = chosen["fade"]
    if keeps_colors is not None:
        own = own[~np.asarray(keeps_colors)[own]]
    if len(own):
        pictures[own] = _faded(pictures[own], generator)
    own = chosen["shade"]
    if len(own):
        pictures[own] *= _light(len(own), pixels.shape[1], pixels.shape[2], generator)
    own = chosen["noise"]
    if len(own):
        strength = generator.uniform(2, 14, (len(own), 1, 1, 1)).astype(np.float32)
        pictures[own] += strength * generator.standard_normal((len(own), *pixels.shape[1:3], 1), dtype=np.float32)
    own = chosen["specks"]
    if len(own):
        marks = generator.random((len(own), *pixels.shape[1:3], 1), dtype=np.float32) < 0.002
        pictures[own] = np.where(marks, generator.choice([0.0, 255.0]), pictures[own])
    worsened = np.clip(pictures, 0, 255).astype(np.uint8)
    for index in chosen["jpeg"]:
        worsened[index] = _compressed(worsened[index], int(generator.integers(25, 80)))
    return worsened


def _coarse(picture: UInt8Array, scale: float) -> Float32Array:
    height_px, width_px = picture.shape[:2]
    small = Image.fromarray(picture).resize(
        (round(width_px * scale), round(height_px * scale)), Image.Resampling.BILINEAR
    )
    return np.asarray(small.resize((width_px, height_px), Image.Resampling.BICUBIC), dtype=np.float32)


def _blurred(pictures: Float32Array, side: Float32Array) -> Float32Array:
    """Each pixel mixed with its neighbours: `side` is the share of each of the two, across and then down."""
    for axis in (1, 2):
        before, after = np.roll(pictures, 1, axis), np.roll(pictures, -1, axis)
        pictures = (1 - 2 * side) * pictures + side * (before + after)
    return pictures


def _faded(pictures: Float32Array, generator: np.random.Generator) -> Float32Array:
    """Less contrast, towards a grey of each picture's own."""
    shape = (len(pictures), 1, 1, 1)
    contrast = generator.uniform(0.45, 1.0, shape).astype(np.float32)
    grey = generator.uniform(60, 230, shape).astype(np.float32)
    return grey + contrast * (pictures - grey)


def _light(num: int, height_px: int, width_px: int, generator: np.random.Generator) -> Float32Array:
    """Factors that fall from one side of a picture to the other, num x H x W x 1."""
    across = np.linspace(-0.5, 0.5, width_px, dtype=np.float32)[None, None, :]
    down = np.linspace(-0.5, 0.5, height_px, dtype=np.float32)[None, :, None]
    slopes = generator.uniform(-0.35, 0.35, (2, num, 1, 1)).astype(np.float32)
    light: Float32Array = (0.9 + slopes[0] * across + slopes[1] * down)[..., None]
    return light


def _compressed(picture: UInt8Array, quality: int) -> UInt8Array:
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.uint8)
