"""Pictures of nothing that a model knows, which stand in for photographs: it should say of them that it can't tell.

Natural scenes have amplitudes of about one over the frequency, which these textures are drawn with (Field, "Relations
between the statistics of natural images", 1987).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from fastvlm.batches import Float32Array, UInt8Array


def unrelated_picture(generator: np.random.Generator, *, width_px: int, height_px: int) -> UInt8Array:
    """One picture as uint8 [height, width, 3]: a texture, a view in layers, things of soft outlines, or waves.

    The same state of the generator gives the same pixels.
    """
    # Some as sharp as a document is, so that sharpness alone does not tell what can be read.
    coarseness = int(generator.integers(1, 4))
    height, width = -(-height_px // coarseness), -(-width_px // coarseness)
    draw = _STYLES[int(generator.integers(len(_STYLES)))]
    picture = draw(generator, height, width)
    light = 1 + generator.uniform(0, 0.5) * _texture(generator, height, width, exponent=2.5)[..., None]
    levels = np.clip(255 * picture * light, 0, 255).astype(np.uint8)
    enlarged = Image.fromarray(levels).resize((width_px, height_px), Image.Resampling.BICUBIC)
    grain = generator.normal(0, generator.uniform(0, 6), (height_px, width_px, 1))
    return np.clip(np.asarray(enlarged, np.float32) + grain, 0, 255).astype(np.uint8)


def _texture(generator: np.random.Generator, height: int, width: int, *, exponent: float) -> Float32Array:
    """Noise of mean 0 and deviation 1 whose amplitudes fall with the frequency to the power of -exponent."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(down, across), 1 / max(height, width))
    spectrum = np.fft.rfft2(generator.normal(size=(height, width))) * frequency**-exponent
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return np.asarray(noise / max(1e-9, noise.std()), np.float32)


def _painted(generator: np.random.Generator, height: int, width: int) -> Float32Array:
    """A surface: a texture between two colours, and a little of a third."""
    vividness = generator.choice((0.05, 0.1, 0.3))
    first, second = np.clip(generator.uniform(0, 1, (2, 1)) + generator.normal(0, vividness, (2, 3)), 0, 1)
    share = 0.5 + 0.25 * _texture(generator, height, width, exponent=generator.uniform(0.6, 1.8))[..., None]
    tint = generator.normal(0, 0.05, 3) * _texture(generator, height, width, exponent=1.5)[..., None]
    return np.asarray(first + (second - first) * np.clip(share, 0, 1) + tint, np.float32)


def _layers(generator: np.random.Generator, height: int, width: int) -> Float32Array:
    """Surfaces above each other with uneven edges, as of sky, hills and ground."""
    picture = _painted(generator, height, width)
    rows = np.arange(height)[:, None]
    for start in np.sort(generator.uniform(0.15, 0.95, int(generator.integers(1, 4)))):
        edge = height * (start + 0.06 * _texture(generator, 2, width, exponent=generator.uniform(0.8, 1.8))[:1])
        picture = _over(picture, _painted(generator, height, width), rows - edge, softness=generator.uniform(0.5, 3))
    return picture


def _things(generator: np.random.Generator, height: int, width: int) -> Float32Array:
    """Shaded bodies of soft, uneven outlines before a surface."""
    picture = _painted(generator, height, width)
    rows, columns = np.indices((height, width), dtype=np.float32)
    for _ in range(int(generator.integers(2, 9))):
        y, x = generator.uniform(0, height), generator.uniform(0, width)
        radius = min(height, width) * generator.uniform(0.12, 0.5)
        slope, stretch = generator.uniform(0, np.pi), generator.uniform(1, 2.5)
        along = (columns - x) * np.cos(slope) + (rows - y) * np.sin(slope)
        aside = (rows - y) * np.cos(slope) - (columns - x) * np.sin(slope)
        uneven = 1 + 0.15 * _texture(generator, height, width, exponent=2.0)
        inside = radius * uneven - np.hypot(along / stretch, aside)
        body = _painted(generator, height, width) * (0.6 + 0.5 * np.clip(inside / radius, 0, 1)[..., None])
        picture = _over(picture, body, inside, softness=generator.uniform(0.5, 4))
    return picture


def _waves(generator: np.random.Generator, height: int, width: int) -> Float32Array:
    """Bent stripes, as of cloth, leaves and water."""
    rows, columns = np.indices((height, width), dtype=np.float32)
    slope, length = generator.uniform(0, np.pi), generator.uniform(5, 40)
    bend = length * generator.uniform(0.2, 1) * _texture(generator, height, width, exponent=2.0)
    phase = (columns * np.cos(slope) + rows * np.sin(slope) + bend) * (2 * np.pi / length)
    first, second = _painted(generator, height, width), _painted(generator, height, width)
    return _over(first, second, length / 4 * np.sin(phase), softness=generator.uniform(0.5, length / 4))


def _over(below: Float32Array, above: Float32Array, inside: Float32Array, *, softness: float) -> Float32Array:
    """One picture over another where `inside`, a distance in pixels, is positive."""
    share = 1 / (1 + np.exp(-np.clip(inside / softness, -30, 30)))
    return np.asarray(below + (above - below) * share[..., None], np.float32)


_STYLES: tuple[Callable[[np.random.Generator, int, int], Float32Array], ...] = (_painted, _layers, _things, _waves)
