"""Pictures become tiles as the authors cut them, and the count of visual tokens is one number everywhere."""

from __future__ import annotations

import io
import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from fastvlm.errors import CheckpointError, FastVLMError, ImageError
from fastvlm.processing.config import ImageMode, ProcessingConfig
from fastvlm.processing.images import read_image
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.tiles import best_resolution, fit_grid

GOLDEN_PINPOINTS = ((128, 256), (256, 128), (256, 256), (384, 128), (128, 384))
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CONFIGS = {
    "pad": ProcessingConfig(mode="pad", size_px=128),
    "crop": ProcessingConfig(mode="crop", size_px=128),
    "anyres": ProcessingConfig(mode="anyres", size_px=64, pinpoints=((64, 128), (128, 64), (128, 128), (192, 64))),
    "fit": ProcessingConfig(mode="fit", max_visual_tokens=16),
}

# The highest resident memory of a process: not resource.getrusage, which inherits the parent's.
PEAK_KB = """
def peak_kb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * 100_003 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def red_and_blue_ends(width: int, height: int) -> np.ndarray:
    """A white picture whose first tenth is red and whose last tenth is blue, along its long side."""
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    long = image if width >= height else image.swapaxes(0, 1)
    long[:, : long.shape[1] // 10] = (255, 0, 0)
    long[:, -(long.shape[1] // 10) :] = (0, 0, 255)
    return image


def shows(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(picture.astype(int) - colour).max(axis=-1) < 30).sum() >= 20)


@pytest.mark.parametrize("size", ["300x120", "97x260", "128x128", "40x33"])
def test_padded_pixels_are_the_authors(shared: Path, size: str) -> None:
    golden = load_file(shared / "golden" / "preprocessing_expected.safetensors")
    tiles = ImageProcessor(ProcessingConfig(mode="pad", size_px=128))(golden[f"image_{size}"])
    assert tiles.pixels.shape == (1, 3, 128, 128)
    assert np.abs(tiles.pixels[0] - golden[f"pixels_{size}"]).max() <= 1 / 255


@pytest.mark.parametrize("size", ["300x120", "97x260"])
def test_anyres_tiles_are_the_authors(shared: Path, size: str) -> None:
    golden = load_file(shared / "golden" / "preprocessing_expected.safetensors")
    config = ProcessingConfig(mode="anyres", size_px=128, pinpoints=GOLDEN_PINPOINTS)
    pictures = ImageProcessor(config).pictures(golden[f"image_{size}"])
    np.testing.assert_array_equal(np.stack(pictures).transpose(0, 3, 1, 2), golden[f"anyres_{size}"])


def test_anyres_geometry_is_the_authors(shared: Path) -> None:
    golden = json.loads((shared / "golden" / "anyres_geometry_expected.json").read_text())
    assert len(golden["cases"]) >= 100
    for case in golden["cases"]:
        pinpoints = tuple((width, height) for width, height in golden["pinpoints"][case["pinpoints"]])
        assert best_resolution(case["width"], case["height"], pinpoints) == tuple(case["best"])
        tile_px = min(min(pinpoint) for pinpoint in pinpoints)
        assert case["best"] == [case["grid_columns"] * tile_px, case["grid_rows"] * tile_px]
        if tile_px % 64 == 0:
            config = ProcessingConfig(mode="anyres", size_px=tile_px, pinpoints=pinpoints)
            layout = ImageProcessor(config).layout(case["width"], case["height"])
            assert (layout.grid_rows, layout.grid_columns) == (case["grid_rows"], case["grid_columns"])
            assert layout.has_overview


@pytest.mark.parametrize("mode", ["pad", "anyres", "fit"])
@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_pitfall_b1_both_ends_of_a_one_to_three_picture_are_kept(mode: str, size: tuple[int, int]) -> None:
    pictures = ImageProcessor(CONFIGS[mode]).pictures(red_and_blue_ends(*size))
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert any(shows(picture, colour) for picture in pictures)


def test_pitfall_b1_a_crop_loses_both_ends_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    processor = ImageProcessor(CONFIGS["crop"])
    with caplog.at_level(logging.WARNING):
        processor.pictures(noise(104, 100))
        assert not caplog.records
        picture = processor.pictures(red_and_blue_ends(300, 100))[0]
        processor.pictures(noise(300, 100))
    assert not shows(picture, (255, 0, 0))
    assert not shows(picture, (0, 0, 255))
    assert [record.getMessage() for record in caplog.records] == [
        "This checkpoint crops the centre of a picture: 67 % of one of 300 x 100 px is not seen. "
        "Crop it yourself to choose what is, or choose the mode pad."
    ]


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (129, 128), (50, 50)])
def test_crop_is_the_centre_of_the_resized_picture(size: tuple[int, int]) -> None:
    image = noise(*size)
    width, height = size
    resized = (int(128 * width / height), 128) if width >= height else (128, int(128 * height / width))
    whole = Image.fromarray(image).resize(resized, Image.Resampling.BICUBIC)
    left, top = (resized[0] - 128) // 2, (resized[1] - 128) // 2
    expected = np.asarray(whole.crop((left, top, left + 128, top + 128)))
    np.testing.assert_array_equal(ImageProcessor(CONFIGS["crop"]).pictures(image)[0], expected)


def test_pitfall_b5_mean_and_std_come_from_the_config() -> None:
    image = noise(128, 128)
    plain = ImageProcessor(ProcessingConfig(size_px=128))(image).pixels[0]
    np.testing.assert_array_equal(plain, (image / 255).transpose(2, 0, 1).astype(np.float32))
    clip = ImageProcessor(ProcessingConfig(size_px=128, mean=CLIP_MEAN, std=CLIP_STD))(image).pixels[0]
    expected = (image / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    np.testing.assert_allclose(clip, expected.transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize("mode", ["pad", "anyres", "fit"])
def test_padding_has_the_colour_of_the_mean(mode: str) -> None:
    pinpoints = ((128, 128),) if mode == "anyres" else ()
    config = ProcessingConfig(
        mode=mode, size_px=128, pinpoints=pinpoints, max_visual_tokens=6, mean=CLIP_MEAN, std=CLIP_STD
    )
    white = np.full((60, 200, 3), 255, dtype=np.uint8)
    picture = ImageProcessor(config).pictures(white)[-1]
    assert picture[0, 0].tolist() == [122, 116, 104]
    normalised = ImageProcessor(config)(white).pixels[-1][:, 0, 0]
    assert np.abs(normalised).max() < 0.02


def test_fit_keeps_the_aspect_in_the_largest_grid() -> None:
    processor = ImageProcessor(CONFIGS["fit"])
    assert fit_grid(400, 100, 16) == (2, 8)
    layout = processor.layout(400, 100)
    assert (layout.tile_height_px, layout.tile_width_px, layout.num_visual_tokens) == (128, 512, 16)
    picture = processor.pictures(np.full((100, 400, 3), 255, dtype=np.uint8))[0]
    assert picture.shape == (128, 512, 3)
    assert picture.min() == 255
    square = processor.pictures(np.full((90, 100, 3), 255, dtype=np.uint8))[0]
    rows = np.flatnonzero(square.max(axis=(1, 2)))
    # 256 columns wide, so 230 or 231 rows of picture, with the rest of the padding shared by top and bottom.
    assert len(rows) in (230, 231)
    assert abs(rows[0] - (255 - rows[-1])) <= 1


sizes = st.one_of(st.integers(1, 700), st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 1000, 2999]))


@pytest.mark.parametrize("mode", sorted(CONFIGS))
@settings(max_examples=60, deadline=None)
@given(width=sizes, height=sizes)
def test_pitfall_b21_one_geometry_for_pixels_and_counts(mode: str, width: int, height: int) -> None:
    processor = ImageProcessor(CONFIGS[mode])
    tiles = processor(np.zeros((height, width, 3), dtype=np.uint8))
    layout = processor.layout(width, height)
    assert tiles.layout == layout
    assert tiles.pixels.shape == (layout.num_tiles, 3, layout.tile_height_px, layout.tile_width_px)
    assert tiles.pixels.flags["C_CONTIGUOUS"]
    assert layout.tile_height_px % 64 == 0
    assert layout.tile_width_px % 64 == 0
    num_cells = layout.num_tiles * (layout.tile_height_px // 64) * (layout.tile_width_px // 64)
    assert num_cells == layout.num_visual_tokens


@settings(max_examples=200, deadline=None)
@given(width=st.integers(1, 64), height=st.integers(1, 64))
def test_pitfall_b21_a_small_picture_is_not_cut_into_many_tiles(width: int, height: int) -> None:
    config = ProcessingConfig(
        mode="anyres", size_px=64, pinpoints=((64, 64), (64, 128), (128, 64), (128, 128), (256, 256))
    )
    assert ImageProcessor(config).layout(width, height).num_tiles == 2


@settings(max_examples=300, deadline=None)
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), max_tokens=st.integers(1, 60))
def test_fit_grid_shows_the_picture_largest_in_fewest_cells(width: int, height: int, max_tokens: int) -> None:
    rows, columns = fit_grid(width, height, max_tokens)
    assert rows * columns <= max_tokens
    best = max(
        min(other_columns / width, other_rows / height)
        for other_rows in range(1, max_tokens + 1)
        for other_columns in range(1, max_tokens // other_rows + 1)
    )
    scale = min(columns / width, rows / height)
    assert math.isclose(scale, best, rel_tol=1e-6)
    # One row or column less would show it smaller.
    for fewer in ((rows - 1, columns), (rows, columns - 1)):
        assert min(fewer) == 0 or min(fewer[1] / width, fewer[0] / height) < scale * (1 - 1e-12)


@pytest.mark.parametrize("size", [(4100, 60), (60, 4100), (5000, 700), (700, 5000)])
@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), CLIP_MEAN])
def test_padding_of_long_pictures_is_that_of_short_ones(
    size: tuple[int, int], mean: tuple[float, float, float]
) -> None:
    config = ProcessingConfig(mode="pad", size_px=256, mean=mean)
    smooth = Image.fromarray(noise(9, 9)).resize(size, Image.Resampling.BICUBIC)
    colour = tuple(int(channel * 255) for channel in mean)
    padded = Image.new("RGB", (max(size), max(size)), colour)
    padded.paste(smooth, ((max(size) - size[0]) // 2, (max(size) - size[1]) // 2))
    expected = np.asarray(padded.resize((256, 256), Image.Resampling.BICUBIC)).astype(int)
    picture = ImageProcessor(config).pictures(np.asarray(smooth))[0]
    assert np.abs(picture.astype(int) - expected).max() <= 1


@needs_proc
@pytest.mark.parametrize("mode", sorted(CONFIGS))
def test_a_huge_aspect_needs_little_memory(mode: str) -> None:
    # In a process of its own, because the highest mark of memory never falls again. Padded: 1.2 GB and more.
    script = PEAK_KB + (
        "import sys, numpy as np\n"
        "from fastvlm.processing.config import ProcessingConfig\n"
        "from fastvlm.processing.tiling import ImageProcessor\n"
        "pinpoints = ((1024, 2048), (2048, 1024)) if sys.argv[1] == 'anyres' else ()\n"
        "processor = ImageProcessor(ProcessingConfig(mode=sys.argv[1], pinpoints=pinpoints))\n"
        "images = [np.full(shape, 200, dtype=np.uint8) for shape in ((10, 20000, 3), (20000, 10, 3))]\n"
        "before = peak_kb()\n"
        "for image in images:\n    assert processor.pictures(image)[-1].max() >= 150\n"
        "assert peak_kb() - before < 150_000\n"
    )
    done = subprocess.run([sys.executable, "-c", script, mode], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"size_px": 1000}, "multiple of 64 px, got 1000. The nearest is 1024"),
        ({"size_px": 0}, "multiple of 64 px, got 0. The nearest is 64"),
        ({"mode": "squash"}, "pad, crop, anyres, fit, got 'squash'"),
        ({"std": (1.0, 0.0, 1.0)}, "every std above 0"),
        ({"mean": (0.0,)}, "3 channels"),
        ({"max_visual_tokens": 0}, "at least 1 visual token"),
        ({"mode": "anyres"}, "pinpoints"),
        ({"mode": "anyres", "size_px": 128, "pinpoints": ((128, 200),)}, "multiples of the tile's 128 px"),
    ],
)
def test_a_config_that_makes_no_sense_is_one_line(values: dict[str, object], says: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        ProcessingConfig(**values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_a_wrong_array_is_one_line(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="uint8 and H x W x 3") as caught:
        ImageProcessor(CONFIGS["pad"])(image)
    assert isinstance(caught.value, FastVLMError)


@pytest.mark.parametrize(
    ("mode", "width", "height", "divisor"),
    [
        ("pad", 4000, 3000, 2),
        ("pad", 3000, 6144, 4),
        ("pad", 3071, 3071, 1),
        ("pad", 20_000, 20, 8),
        ("crop", 4000, 3072, 2),
        ("crop", 3000, 4000, 1),
        ("fit", 6144, 6144, 4),
        ("anyres", 4000, 3000, 1),
        ("anyres", 6144, 6144, 2),
    ],
)
def test_a_picture_may_be_decoded_down_to_half_as_much_again_as_is_shown(
    mode: ImageMode, width: int, height: int, divisor: int
) -> None:
    config = ProcessingConfig(mode=mode, size_px=1024, max_visual_tokens=256, pinpoints=((2048, 2048),))
    assert ImageProcessor(config).reduction(width, height) == divisor


@pytest.mark.parametrize("mode", ["pad", "crop", "fit"])
def test_pixels_of_a_picture_decoded_at_half_its_sides_are_nearly_those_of_the_whole(mode: ImageMode) -> None:
    rows, columns = np.mgrid[:1800, :2400] / 1200
    waves = np.stack([np.sin(9 * rows + 3 * columns), np.cos(40 * rows * columns), np.sin(60 * rows)], -1)
    file = io.BytesIO()
    Image.fromarray((127 + 120 * waves).astype(np.uint8)).save(file, "JPEG", quality=90)
    processor = ImageProcessor(ProcessingConfig(mode=mode, size_px=512, max_visual_tokens=64))
    assert processor.reduction(2400, 1800) > 1
    whole = processor(read_image(file.getvalue())).pixels
    reduced = processor(read_image(file.getvalue(), reduction=processor.reduction)).pixels
    assert np.abs(whole - reduced).mean() * 255 < 1
    assert np.abs(whole - reduced).max() * 255 < 32


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((64, 64), (2, 2)),
        ((100, 40), (2, 4)),
        ((100, 20), (1, 5)),  # 3.2 times, until it fills a row of cells
        ((300, 10), (1, 12)),  # until it fills as many cells as there may be
        ((32, 32), (1, 1)),
        ((3000, 1000), (2, 6)),
    ],
)
def test_small_pictures_are_enlarged_no_more_than_wanted(size: tuple[int, int], grid: tuple[int, int]) -> None:
    """Twice at most, or until a thin one fills a row of cells; a large one gets the grid that it gets with no limit."""
    limited = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=12, max_enlargement=2.0))
    picture = np.full((size[1], size[0], 3), 200, np.uint8)
    layout = limited.layout(*size)
    assert (layout.tile_height_px // 64, layout.tile_width_px // 64) == grid
    (shown,) = limited.pictures(picture)
    rows, columns = ((shown == 200).all(2)).any(1).sum(), ((shown == 200).all(2)).any(0).sum()
    most = max(2.0, 64 / min(size))
    scale = min(most, layout.tile_width_px / size[0], layout.tile_height_px / size[1])
    assert abs(rows - size[1] * scale) <= 1 and abs(columns - size[0] * scale) <= 1
    free = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=12))
    assert (free.layout(*size).num_visual_tokens == layout.num_visual_tokens) == (scale < most)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((256, 256), (4, 4)),  # 25 cells would be needed to show it larger
        ((240, 180), (4, 6)),  # as large as 24 cells hold
        ((310, 250), (4, 5)),  # no more cells than show it as large
        ((100, 50), (2, 4)),  # twice as large, and no larger
        ((1000, 1000), (4, 4)),  # made smaller, to 24 cells at most
        ((900, 600), (4, 6)),
    ],
)
def test_small_pictures_are_enlarged_to_fill_their_cells(size: tuple[int, int], grid: tuple[int, int]) -> None:
    config = ProcessingConfig(mode="fit", max_visual_tokens=24, max_enlargement=2.0)
    processor = ImageProcessor(config)
    layout = processor.layout(*size)
    assert (layout.tile_height_px // 64, layout.tile_width_px // 64) == grid
    (shown,) = processor.pictures(np.full((size[1], size[0], 3), 200, np.uint8))
    left_px, top_px, right_px, bottom_px = processor.place(*size)
    assert (shown[top_px:bottom_px, left_px:right_px] == 200).all()
    assert (shown == 200).all(2).sum() == (right_px - left_px) * (bottom_px - top_px)
    scale = (right_px - left_px) / size[0]
    assert scale <= 2
    with pytest.raises(CheckpointError, match="at least 1 visual token"):
        ProcessingConfig(mode="fit", max_visual_tokens=0)
    with pytest.raises(ImageError, match="mode fit"):
        ImageProcessor(ProcessingConfig(mode="pad")).place(*size)


@pytest.mark.parametrize(
    ("mode", "scale"),
    # 300 x 100 px: into a square of 128, its middle out of one, into 2 x 1 squares, and into 3 x 1 cells of 64.
    [("pad", 128 / 300), ("crop", 1.28), ("anyres", 256 / 300), ("fit", 0.64)],
)
def test_a_picture_is_told_as_large_as_it_is_seen(mode: ImageMode, scale: float) -> None:
    grey, pinpoints = (0.5, 0.5, 0.5), ((256, 128), (128, 256))
    config = ProcessingConfig(mode=mode, size_px=128, pinpoints=pinpoints, max_visual_tokens=4, mean=grey)
    processor = ImageProcessor(config)
    assert math.isclose(processor.scale(300, 100), scale, rel_tol=0.01)
    picture = np.full((100, 300, 3), 255, np.uint8)
    picture[:, 140:160] = 0
    dark = sum(int((seen.mean(-1) < 100).any(0).sum()) for seen in processor.pictures(picture)[-2:])
    assert math.isclose(dark, 20 * scale, abs_tol=2)


def test_an_enlargement_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(CheckpointError, match="enlargement above 0"):
        ProcessingConfig(mode="fit", max_enlargement=0.0)
