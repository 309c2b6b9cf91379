"""Lines of text are found where they were drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fastvlm.batches import UInt8Array
from fastvlm.errors import ImageError
from fastvlm.processing.text_lines import Box, find_text_lines, gaps_of, rows_of, words_of

SIZE_PX = 20
Texts = Sequence[tuple[str, int, int]]
LIST: Texts = [("Coffee", 20, 20), ("3.50", 260, 20), ("Hot tea", 20, 60), ("12.00", 260, 60), ("TOTAL", 20, 100)]


def drawn(
    texts: Texts, *, size: tuple[int, int] = (400, 160), ground: int = 245, ink: int = 20, scale: int = 1
) -> tuple[UInt8Array, list[Box]]:
    """A page, and the box of each text on it."""
    font = ImageFont.load_default(SIZE_PX * scale)
    image = Image.new("RGB", (size[0] * scale, size[1] * scale), (ground,) * 3)
    draw = ImageDraw.Draw(image)
    boxes = []
    for text, left, top in texts:
        draw.text((left * scale, top * scale), text, fill=(ink,) * 3, font=font)
        boxes.append(Box(*map(int, draw.textbbox((left * scale, top * scale), text, font=font))))
    return np.asarray(image), boxes


def assert_same_places(found: Sequence[Box], expected: Sequence[Box], *, within_px: float) -> None:
    assert len(found) == len(expected)
    differences = np.abs(np.array(found) - np.array(expected))
    assert differences.max() <= within_px, (found, expected)


def test_lines_are_found_where_they_are_and_in_the_order_of_reading() -> None:
    page, boxes = drawn(LIST)
    assert_same_places(find_text_lines(page), boxes, within_px=4)


def test_light_text_on_a_dark_page_is_found_as_well() -> None:
    page, boxes = drawn(LIST, ground=30, ink=230)
    assert_same_places(find_text_lines(page), boxes, within_px=4)


def test_a_large_picture_is_searched_smaller_and_told_in_its_own_pixels() -> None:
    page, boxes = drawn(LIST, scale=8)
    assert max(page.shape) > 3000
    assert_same_places(find_text_lines(page), boxes, within_px=32)


def test_uneven_light_and_noise_do_not_hide_lines() -> None:
    page, boxes = drawn(LIST, ground=225, ink=60)
    shade = np.linspace(0, 90, page.shape[1])[None, :, None]
    noise = np.random.default_rng(0).normal(0, 4, page.shape)
    dimmed: UInt8Array = np.clip(page - shade + noise, 0, 255).astype(np.uint8)
    assert_same_places(find_text_lines(dimmed), boxes, within_px=5)


def test_frames_and_rules_are_no_lines_of_text() -> None:
    page, boxes = drawn(LIST)
    image = Image.fromarray(page)
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 4, 395, 155), outline=(0, 0, 0), width=2)
    draw.line((10, 50, 390, 50), fill=(0, 0, 0), width=1)
    assert_same_places(find_text_lines(np.asarray(image)), boxes, within_px=4)


def test_a_rule_that_letters_touch_does_not_hide_them() -> None:
    page, boxes = drawn([("jumpy gypsy", 60, 20), ("quip", 60, 80)])
    image = Image.fromarray(page)
    for box in boxes:
        ImageDraw.Draw(image).line((20, box.bottom - 3, 380, box.bottom - 3), fill=(20, 20, 20), width=1)
    assert_same_places(find_text_lines(np.asarray(image)), boxes, within_px=6)


@pytest.mark.parametrize(("ground", "ink"), [(245, 20), (30, 230)])
def test_large_letters_of_a_small_picture_are_a_line(ground: int, ink: int) -> None:
    page, boxes = drawn([("JERA", 20, 10)], size=(90, 28), ground=ground, ink=ink, scale=2)
    assert_same_places(find_text_lines(page), boxes, within_px=8)


@pytest.mark.parametrize(("ground", "ink"), [(245, 20), (30, 230)])
def test_words_of_a_line_are_told_by_the_gaps_between_them(ground: int, ink: int) -> None:
    page, boxes = drawn([("Date", 20, 20), ("of", 72, 20), ("birth", 100, 20)], ground=ground, ink=ink)
    line = Box(boxes[0].left, boxes[0].top, boxes[-1].right, boxes[-1].bottom)
    words = words_of(line, gaps_of(page, line))
    assert [abs(word.left - box.left) <= 3 and abs(word.right - box.right) <= 3 for word, box in zip(
        words, boxes, strict=True
    )] == [True] * 3  # fmt: skip
    assert words_of(boxes[-1], gaps_of(page, boxes[-1])) == [boxes[-1]]
    blank = Box(300, 120, 340, 140)
    assert words_of(blank, gaps_of(page, blank)) == [blank]


def test_decimal_points_stay_with_their_numbers() -> None:
    page, (box,) = drawn([("1,234.56", 100, 60)])
    assert_same_places(find_text_lines(page), [box], within_px=4)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_empty_page_has_no_lines(grey: int) -> None:
    assert find_text_lines(np.full((64, 96, 3), grey, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 5)])
def test_pictures_of_hardly_any_pixels_are_looked_at_too(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert all(
        0 <= box.left < box.right <= shape[1] and 0 <= box.top < box.bottom <= shape[0]
        for box in find_text_lines(noise)
    )


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_told_in_one_line(wrong: UInt8Array) -> None:
    with pytest.raises(ImageError, match="Expected a picture of uint8 and H x W x 3, got"):
        find_text_lines(wrong)


def test_a_texture_is_no_page_and_is_told_soon() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (1024, 1024), dtype=np.uint8)
    texture = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)))
    texture = np.clip((texture.astype(np.int64) - 128) * 6 + 128, 0, 255).astype(np.uint8)
    started_s = time.perf_counter()
    find_text_lines(np.repeat(texture[:, :, None], 3, axis=2))
    assert time.perf_counter() - started_s < 20


def test_rows_hold_what_stands_on_one_height() -> None:
    boxes = [Box(50, 12, 60, 22), Box(0, 40, 9, 50), Box(0, 10, 9, 20), Box(30, 41, 39, 52)]
    assert rows_of(boxes, lambda box: box) == [[boxes[2], boxes[0]], [boxes[1], boxes[3]]]


def test_dots_that_lead_to_a_value_are_no_text() -> None:
    page, boxes = drawn([("Email", 20, 20), ("island", 260, 20), ("City", 20, 60), ("Oslo", 260, 60)])
    image = Image.fromarray(page)
    draw = ImageDraw.Draw(image)
    for y in (38, 78):
        for x in range(boxes[0].right + 6, 252, 5):
            draw.rectangle((x, y, x + 1, y + 1), fill=(90, 90, 90))
    assert_same_places(find_text_lines(np.asarray(image)), boxes, within_px=4)


def test_dots_of_letters_and_points_stay() -> None:
    page, boxes = drawn([("civilising", 20, 20), ("No. 4. a. b. c. d.", 20, 60), ("...", 300, 60)])
    found = find_text_lines(page)
    assert_same_places(found[:2], boxes[:2], within_px=4)


def test_the_side_of_a_box_is_no_letter() -> None:
    page, boxes = drawn([("Status", 20, 24), ("Monday", 168, 24), ("Room", 20, 74), ("143", 168, 74)])
    image = Image.fromarray(page)
    for top in (14, 64):
        ImageDraw.Draw(image).rectangle((160, top, 360, top + 36), outline=(110, 110, 110))
    assert_same_places(find_text_lines(np.asarray(image)), boxes, within_px=4)


def test_a_wide_patch_of_a_legend_is_no_letter() -> None:
    page, boxes = drawn([("Bridge", 80, 20), ("Monday", 80, 60)])
    image = Image.fromarray(page)
    for top in (25, 65):
        ImageDraw.Draw(image).rectangle((46, top, 72, top + 9), fill=(40, 90, 160))
    assert_same_places(find_text_lines(np.asarray(image)), boxes, within_px=4)


@pytest.mark.parametrize(("ground", "band", "ink"), [(245, (30, 60, 110), 250), (30, (225, 225, 235), 20)])
def test_text_on_a_band_of_another_ground_is_found(ground: int, band: tuple[int, int, int], ink: int) -> None:
    """A dark head of a table on a light page, and the other way round."""
    texts = [("Item", 20, 20), ("Price", 260, 20)]
    page, boxes = drawn(
        [*texts, *[(text, left, top + 40) for text, left, top in LIST]], ground=ground, ink=255 - ground
    )
    image = Image.fromarray(page)
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 12, 390, 46), fill=band)
    for text, left, top in texts:
        draw.text((left, top), text, fill=(ink,) * 3, font=ImageFont.load_default(SIZE_PX))
    assert_same_places(find_text_lines(np.asarray(image)), boxes, within_px=4)


def test_bands_may_lie_in_each_other() -> None:
    """A dark page with a light card, which has a dark head: of all three the text is found."""
    font = ImageFont.load_default(SIZE_PX)
    image = Image.new("RGB", (420, 260), (30, 32, 36))
    draw = ImageDraw.Draw(image)
    draw.text((20, 14), "Settings", fill=(235, 235, 235), font=font)
    draw.rectangle((40, 60, 380, 230), fill=(245, 245, 245))
    draw.rectangle((56, 76, 364, 112), fill=(40, 60, 110))
    draw.text((80, 82), "Account", fill=(250, 250, 250), font=font)
    draw.text((80, 150), "Monday", fill=(20, 20, 20), font=font)
    places = ((20, 14, "Settings"), (80, 82, "Account"), (80, 150, "Monday"))
    expected = [Box(*map(int, draw.textbbox((left, top), text, font=font))) for left, top, text in places]
    assert_same_places(find_text_lines(np.asarray(image)), expected, within_px=4)


def test_a_thick_frame_hides_nothing() -> None:
    page, boxes = drawn(LIST)
    image = Image.fromarray(page)
    ImageDraw.Draw(image).rectangle((0, 0, 399, 159), outline=(20, 20, 20), width=9)
    assert_same_places(find_text_lines(np.asarray(image)), boxes, within_px=4)
