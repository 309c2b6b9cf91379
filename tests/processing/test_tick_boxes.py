"""Boxes to tick are found where they were drawn, whoever drew them, and letters are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fastvlm.batches import UInt8Array
from fastvlm.errors import ImageError
from fastvlm.processing.text_lines import Box, find_text_lines
from fastvlm.processing.tick_boxes import find_tick_boxes, without_tick_boxes

OPTIONS = (("Newsletter", True), ("Express", False), ("Gift wrapping", True))
SIDE_PX = 16

Mark = Callable[[ImageDraw.ImageDraw, int, int], None]


def framed(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    draw.rectangle((left, top, left + SIDE_PX, top + SIDE_PX), outline="black")


def crossed(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    framed(draw, left, top)
    for start, stop in ((top + 3, top + SIDE_PX - 3), (top + SIDE_PX - 3, top + 3)):
        draw.line((left + 3, start, left + SIDE_PX - 3, stop), fill="black", width=2)


def ticked_by_hand(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    """With a pen, beyond the frame."""
    framed(draw, left, top)
    points = ((left + 2, top + 8), (left + 7, top + 15), (left + 21, top - 6))
    draw.line(points, fill=(20, 20, 140), width=2)


def filled(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    """As a browser shows it: a white tick on a blue ground."""
    draw.rounded_rectangle((left, top, left + SIDE_PX, top + SIDE_PX), 3, fill=(0, 95, 204))
    draw.line(((left + 4, top + 9), (left + 7, top + 12), (left + 13, top + 5)), fill="white", width=2)


def form(mark: Mark, *, options: Sequence[tuple[str, bool]] = OPTIONS, is_row: bool = False) -> UInt8Array:
    image = Image.new("RGB", (520, 200), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    draw.text((20, 12), "Registration form", fill="black", font=font)
    for place, (name, is_ticked) in enumerate(options):
        left, top = (20 + 160 * place, 60) if is_row else (20, 60 + 32 * place)
        (mark if is_ticked else framed)(draw, left, top)
        draw.text((left + 28, top - 3), name, fill="black", font=font)
    return np.asarray(image)


@pytest.mark.parametrize("mark", [crossed, ticked_by_hand, filled])
def test_boxes_are_found_and_told_whether_they_are_ticked(mark: Mark) -> None:
    found = find_tick_boxes(form(mark))
    assert [one.is_ticked for one in found] == [is_ticked for _, is_ticked in OPTIONS]
    expected = [(20, top, 37, top + 17) for top in (60, 92, 124)]
    assert np.abs(np.subtract([one.box for one in found], expected)).max() <= 2


@pytest.mark.parametrize("mark", [crossed, ticked_by_hand, filled])
@pytest.mark.parametrize("is_row", [False, True])
def test_lines_are_the_names_alone(mark: Mark, is_row: bool) -> None:
    options = tuple((name.split()[0], is_ticked) for name, is_ticked in OPTIONS)
    picture = form(mark, options=options, is_row=is_row)
    lines = without_tick_boxes(find_text_lines(picture), picture)
    starts = [line.left for line in lines[1:]]
    expected = [48, 208, 368] if is_row else [48, 48, 48]
    assert len(starts) == 3 and np.abs(np.subtract(starts, expected)).max() <= 4


def test_scans_have_boxes_too() -> None:
    page = Image.fromarray(form(crossed)).rotate(0.7, fillcolor="white", resample=Image.Resampling.BICUBIC)
    noisy = np.asarray(page.filter(ImageFilter.GaussianBlur(0.7))).astype(np.float32)
    noisy = 0.7 * noisy + 40 + np.random.default_rng(0).normal(0, 8, noisy.shape)
    found = find_tick_boxes(np.clip(noisy, 0, 255).astype(np.uint8))
    assert [one.is_ticked for one in found] == [is_ticked for _, is_ticked in OPTIONS]


def test_a_large_scan_is_searched_smaller_and_told_in_its_own_pixels() -> None:
    large = np.asarray(Image.fromarray(form(crossed)).resize((4160, 1600)))
    first = find_tick_boxes(large)[0].box
    assert np.abs(np.subtract(first, (160, 480, 296, 616))).max() <= 16


@pytest.mark.parametrize("text", ["DOB 0808 QUOD", "P R B O 8 0 e", "Total Sales noon", "BOX 80 EHMNUZ"])
@pytest.mark.parametrize("size_px", [14, 20, 40])
def test_letters_are_no_boxes(text: str, size_px: int) -> None:
    image = Image.new("RGB", (900, 200), "white")
    for top in (10, 100):
        ImageDraw.Draw(image).text((20, top), text, fill="black", font=ImageFont.load_default(size_px))
    picture = np.asarray(image)
    assert find_tick_boxes(picture) == []
    lines = find_text_lines(picture)
    assert lines and without_tick_boxes(lines, picture) == lines


def test_a_box_alone_stays_in_its_line() -> None:
    picture = form(crossed, options=(("I agree", True),))
    assert len(find_tick_boxes(picture)) == 1
    lines = find_text_lines(picture)
    assert without_tick_boxes(lines, picture) == lines


def test_large_frames_and_wide_fields_are_no_boxes() -> None:
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, 260, 44), outline="black")
    draw.rectangle((20, 60, 180, 220), outline="black")
    assert find_tick_boxes(np.asarray(image)) == []


@pytest.mark.parametrize("side_px", [16, 40, 64])
def test_a_box_that_is_filled_is_ticked_however_large(side_px: int) -> None:
    image = Image.new("RGB", (600, 400), "white")
    ImageDraw.Draw(image).rectangle((40, 40, 40 + side_px, 40 + side_px), fill="black")
    ImageDraw.Draw(image).rectangle((240, 40, 240 + side_px, 40 + side_px), outline="black", width=2)
    assert [found.is_ticked for found in find_tick_boxes(np.asarray(image))] == [True, False]


def test_noise_takes_no_long_time() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    start = time.perf_counter()
    find_tick_boxes(noise)
    assert time.perf_counter() - start < 10


def test_an_empty_page_has_none_and_other_arrays_are_refused() -> None:
    assert find_tick_boxes(np.full((60, 60, 3), 255, dtype=np.uint8)) == []
    assert without_tick_boxes([], np.full((60, 60, 3), 255, dtype=np.uint8)) == []
    with pytest.raises(ImageError, match="H x W x 3"):
        find_tick_boxes(np.zeros((10, 10), dtype=np.uint8))


def test_a_line_that_ends_with_its_box_is_not_lost() -> None:
    """Nothing stands behind the box: what was in front of it is a line."""
    image = Image.new("RGB", (300, 160), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    for top in (20, 60, 100):
        draw.text((20, top), "Yes", fill="black", font=font)
        framed(draw, 76, top + 3)
    picture = np.asarray(image)
    lines = without_tick_boxes([Box(20, top, 93, top + 22) for top in (20, 60, 100)], picture)
    assert [line.right < 70 for line in lines] == [True, True, True]
