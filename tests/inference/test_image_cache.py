"""What was encoded once is found again, by content, within its bounds."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from fastvlm.batches import PixelTiles, VisualTokens
from fastvlm.inference.image_cache import ImageCache, content_key
from fastvlm.tiles import TileLayout
from support.runtimes import plain_table


class CountingEncoder:
    """Makes 4 kB of visual tokens and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: PixelTiles) -> VisualTokens:
        self.calls += 1
        return VisualTokens(np.full((4, 256), image.pixels.mean(), dtype=np.float32), 4)


def picture(value: float, *, height_px: int = 128, width_px: int = 128) -> PixelTiles:
    levels = np.full((1, height_px, width_px, 3), round(255 * value), dtype=np.uint8)
    return PixelTiles(levels, plain_table(), TileLayout(height_px, width_px))


def test_equal_content_is_encoded_once() -> None:
    cache, encode = ImageCache(), CountingEncoder()
    (first,) = cache.get_or_encode([picture(0.5)], encode)
    (again,) = cache.get_or_encode([picture(0.5)], encode)
    assert first is again
    assert encode.calls == 1
    cache.get_or_encode([picture(0.25)], encode)
    assert encode.calls == 2
    assert len(cache) == 2
    assert cache.num_bytes == 2 * 4096


def test_key_depends_on_layout_shape_and_pixels() -> None:
    wide, tall = picture(0.5, width_px=256), picture(0.5, height_px=256)
    square = picture(0.5)
    other_layout = replace(square, layout=TileLayout(128, 128, has_overview=True))
    other_table = replace(square, table=1 - square.table)
    changed = picture(0.5)
    changed.levels[0, 127, 127, 2] += 1
    keys = {content_key(image) for image in (wide, tall, square, other_layout, other_table, changed)}
    assert len(keys) == 6
    strided = replace(square, levels=np.repeat(square.levels, 2, axis=2)[:, :, ::2])
    assert content_key(strided) == content_key(square)


def test_least_recently_used_leaves_first() -> None:
    cache, encode = ImageCache(max_images=2), CountingEncoder()
    for value in (0.1, 0.2, 0.1, 0.3):
        cache.get_or_encode([picture(value)], encode)
    assert encode.calls == 3
    cache.get_or_encode([picture(0.1)], encode)
    assert encode.calls == 3
    cache.get_or_encode([picture(0.2)], encode)
    assert encode.calls == 4


@pytest.mark.parametrize(("max_bytes", "expected"), [(3 * 4096, 3), (4096 * 3 - 1, 2), (4095, 0)])
def test_bytes_are_bounded(max_bytes: int, expected: int) -> None:
    cache, encode = ImageCache(max_bytes=max_bytes), CountingEncoder()
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        cache.get_or_encode([picture(value)], encode)
        assert cache.num_bytes <= max_bytes
    assert len(cache) == expected
    cache.clear()
    assert len(cache) == 0 and cache.num_bytes == 0


def test_a_failed_encoding_leaves_nothing_behind() -> None:
    cache = ImageCache()

    def fail(image: PixelTiles) -> VisualTokens:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get_or_encode([picture(0.5)], fail)
    assert len(cache) == 0


def test_no_room_means_no_cache() -> None:
    cache, encode = ImageCache(max_images=0), CountingEncoder()
    cache.get_or_encode([picture(0.5)], encode)
    cache.get_or_encode([picture(0.5)], encode)
    assert encode.calls == 2


def test_an_image_above_the_limit_pushes_nothing_out() -> None:
    cache, encode = ImageCache(max_bytes=3 * 4096), CountingEncoder()
    cache.get_or_encode([picture(0.1), picture(0.2)], encode)
    (large,) = cache.get_or_encode(
        [picture(0.9)], lambda image: VisualTokens(np.zeros((16, 256), dtype=np.float32), 16)
    )
    assert large.num_tokens == 16
    assert (len(cache), cache.num_bytes) == (2, 2 * 4096)
    cache.get_or_encode([picture(0.1), picture(0.2)], encode)
    assert encode.calls == 2


def test_a_conversation_never_pushes_its_own_images_out() -> None:
    """One that is dropped least recently used first would encode all four again in every turn."""
    cache, encode = ImageCache(max_images=2), CountingEncoder()
    cache.get_or_encode([picture(0.8)], encode)
    shown = [picture(value) for value in (0.1, 0.2, 0.3, 0.4)]
    for num_shown in (1, 2, 3, 4, 4, 4):
        tokens = cache.get_or_encode(shown[:num_shown], encode)
        assert [float(token.data[0, 0]) for token in tokens] == [image.pixels.mean() for image in shown[:num_shown]]
    assert encode.calls == 1 + 4
    assert len(cache) == 4
    cache.get_or_encode([picture(0.7)], encode)
    assert len(cache) == 2


def test_a_conversation_above_the_bytes_keeps_what_fits() -> None:
    cache, encode = ImageCache(max_bytes=3 * 4096), CountingEncoder()
    shown = [picture(value) for value in (0.1, 0.2, 0.3, 0.4)]
    for turn in range(1, 4):
        cache.get_or_encode(shown, encode)
        assert cache.num_bytes == 3 * 4096
        assert encode.calls == 3 + turn


def test_an_image_shown_twice_is_encoded_once_even_where_it_is_not_kept() -> None:
    cache, encode = ImageCache(max_bytes=1), CountingEncoder()
    first, second = cache.get_or_encode([picture(0.5), picture(0.5)], encode)
    assert first is second
    assert encode.calls == 1


def test_threads_that_bring_the_same_images_keep_the_books_right() -> None:
    cache = ImageCache(max_images=3)
    at_once = threading.Barrier(4)
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def encode(image: PixelTiles) -> VisualTokens:
        return VisualTokens(np.full((4, 256), image.pixels.mean(), dtype=np.float32), 4)

    def ask(seed: int) -> None:
        at_once.wait(timeout=30)
        for value in np.random.default_rng(seed).integers(8, size=600):
            image = picture(value / 8, height_px=64, width_px=64)
            (tokens,) = cache.get_or_encode([image], encode)
            assert np.array_equal(tokens.data, encode(image).data)

    try:
        with ThreadPoolExecutor(4) as pool:
            for finished in [pool.submit(ask, seed) for seed in range(4)]:
                finished.result(timeout=60)
    finally:
        sys.setswitchinterval(before_s)
    assert len(cache) == 3 and cache.num_bytes == 3 * 4096


def test_an_image_that_another_thread_has_just_kept_counts_once() -> None:
    cache, encode = ImageCache(), CountingEncoder()

    def late(image: PixelTiles) -> VisualTokens:
        cache.get_or_encode([image], encode)
        return encode(image)

    cache.get_or_encode([picture(0.5)], late)
    assert encode.calls == 2 and len(cache) == 1 and cache.num_bytes == 4096
