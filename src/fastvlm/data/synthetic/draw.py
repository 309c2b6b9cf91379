"""Scenes to pixels, with Pillow. Every object is drawn oversized as a mask, reduced, and pasted."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from fastvlm.data.synthetic.scene import Background, Box, Scene, SceneObject
from fastvlm.data.synthetic.shapes import outline

UInt8Array = npt.NDArray[np.uint8]

_OVERSAMPLING = 3
_MAX_ENLARGEMENT = 1.45
_MIN_DRAWN_PX = 9.0
_AUGMENTATION_PROBABILITY = 0.06


def draw_scene(scene: Scene, rng: random.Random, *, enlargement: int = 1) -> UInt8Array:
    """Draw a scene as uint8 [height * enlargement, width * enlargement, 3].

    Half of the pictures are drawn at another scale and resized bicubically, as pictures of people are on their way
    into the model; a few per cent get noise, blur or another brightness.
    """
    scale = enlargement * _sample_scale(scene, rng)
    image = render(scene, scale=scale, smooth=rng.random() < 0.85)
    size = (scene.width_px * enlargement, scene.height_px * enlargement)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    pixels = np.array(image, dtype=np.uint8)
    if scene.background.noise > 0:
        pixels = _with_noise(pixels, scene.background.noise, rng)
    if rng.random() < _AUGMENTATION_PROBABILITY:
        pixels = _augment(pixels, rng)
    return pixels


def render(scene: Scene, *, scale: float = 1.0, smooth: bool = True) -> Image.Image:
    """Draw a scene at `scale` times its size, without any randomness; `smooth` means soft edges."""
    size = (round(scene.width_px * scale), round(scene.height_px * scale))
    frame = scene.frame
    if frame.width == scene.width_px and frame.height == scene.height_px:
        image = _draw_background(scene.background, size)
    else:
        image = Image.new("RGB", size, scene.padding_rgb)
        box = _scaled(frame, scale)
        image.paste(_draw_background(scene.background, (box[2] - box[0], box[3] - box[1])), box)
    pen = ImageDraw.Draw(image)
    for panel in scene.panels:
        left, top, right, bottom = _scaled(panel.box, scale)
        pen.rectangle((left, top, right - 1, bottom - 1), fill=panel.rgb, outline=panel.border_rgb)
    for item in scene.objects:
        _draw_object(image, item, scale, _OVERSAMPLING if smooth else 1)
    return image


def _scaled(box: Box, scale: float) -> tuple[int, int, int, int]:
    return round(box.left * scale), round(box.top * scale), round(box.right * scale), round(box.bottom * scale)


def _sample_scale(scene: Scene, rng: random.Random) -> float:
    """Choose the scale to draw at: as it is, coarser (the picture is enlarged), or finer (it is reduced)."""
    draw = rng.random()
    if draw < 0.55:
        return 1.0
    if draw < 0.78:
        smallest = min((item.size_px for item in scene.objects), default=64.0)
        return rng.uniform(min(1.0, max(1 / _MAX_ENLARGEMENT, _MIN_DRAWN_PX / smallest)), 1.0)
    return rng.uniform(1.0, 1.7)


def _draw_background(background: Background, size: tuple[int, int]) -> Image.Image:
    if background.rgb == background.end_rgb:
        return Image.new("RGB", size, background.rgb)
    ends = Image.new("RGB", (2, 1) if background.direction == "across" else (1, 2), background.rgb)
    ends.putpixel((1, 0) if background.direction == "across" else (0, 1), background.end_rgb)
    return ends.resize(size, Image.Resampling.BILINEAR)


def _draw_object(image: Image.Image, item: SceneObject, scale: float, oversampling: int) -> None:
    half = item.size_px * scale / 2
    center_x, center_y = item.center_x_px * scale, item.center_y_px * scale
    left, top = int(center_x - half) - 1, int(center_y - half) - 1
    side = int(2 * half) + 4
    points = outline(item.shape, item.form)
    if item.outline_rgb is not None:
        mask = _mask(item, points, (center_x - left, center_y - top), half, side, oversampling)
        image.paste(item.outline_rgb, (left, top), mask)
        half -= max(1.5, 0.06 * half)
    mask = _mask(item, points, (center_x - left, center_y - top), half, side, oversampling)
    image.paste(item.rgb, (left, top), mask)


def _mask(
    item: SceneObject,
    points: list[tuple[float, float]],
    center: tuple[float, float],
    half: float,
    side: int,
    oversampling: int,
) -> Image.Image:
    mask = Image.new("L", (side * oversampling, side * oversampling), 0)
    pen = ImageDraw.Draw(mask)
    x, y, radius = center[0] * oversampling - 0.5, center[1] * oversampling - 0.5, half * oversampling
    if item.shape in ("circle", "ring"):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        if item.shape == "ring":
            hole = radius * item.form.proportion
            pen.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    else:
        pen.polygon([(x + px * radius, y + py * radius) for px, py in points], fill=255)
    return mask.reduce(oversampling) if oversampling > 1 else mask


def _with_noise(pixels: UInt8Array, deviation: float, rng: random.Random) -> UInt8Array:
    """Add grey noise of about `deviation` levels: the sum of two bytes is close enough to a bell."""
    height, width, _ = pixels.shape
    noise = np.frombuffer(rng.randbytes(2 * height * width), dtype=np.uint8).reshape(2, height, width)
    levels = (noise.sum(axis=0, dtype=np.float32) - 255.0) * np.float32(deviation / 104.0)
    return _to_uint8(pixels + levels[..., None])


def _augment(pixels: UInt8Array, rng: random.Random) -> UInt8Array:
    kind = rng.randrange(3)
    if kind == 0:
        return _with_noise(pixels, rng.uniform(2.0, 7.0), rng)
    if kind == 1:
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9)))
        return np.array(blurred, dtype=np.uint8)
    return _to_uint8(pixels.astype(np.float32) * np.float32(rng.uniform(0.9, 1.08)))


def _to_uint8(pixels: npt.NDArray[np.float32]) -> UInt8Array:
    clipped: UInt8Array = np.clip(pixels, 0, 255).astype(np.uint8)
    return clipped


def fill_index_map(scene: Scene, *, scale: float) -> UInt8Array:
    """Draw which object covers each pixel, uint8 [height * scale, width * scale]: 0 for none, else its index + 1."""
    image = Image.new("L", (round(scene.width_px * scale), round(scene.height_px * scale)), 0)
    for index, item in enumerate(scene.objects):
        _draw_object_index(image, item, scale, index + 1)
    return np.array(image, dtype=np.uint8)


def _draw_object_index(image: Image.Image, item: SceneObject, scale: float, value: int) -> None:
    half = item.size_px * scale / 2
    left, top = int(item.center_x_px * scale - half) - 1, int(item.center_y_px * scale - half) - 1
    center = (item.center_x_px * scale - left, item.center_y_px * scale - top)
    mask = _mask(item, outline(item.shape, item.form), center, half, int(2 * half) + 4, 1)
    image.paste(value, (left, top), mask)
