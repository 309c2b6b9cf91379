"""Generated scenes: determinism, pictures that show what the scene says, labels that lie where the picture does."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.data.synthetic import (
    CANVAS_SIZES_PX,
    COLORS,
    NUM_TOKEN_FEATURES,
    SHAPES,
    Scene,
    draw_scene,
    label_maps,
    render,
    sample_scene,
    scene_sample,
    token_targets,
)
from fastvlm.data.synthetic.palette import EXACT_COLORS, color_distance, sample_rgb
from fastvlm.data.synthetic.pictures import EXAMPLES, contact_sheet, write_examples
from fastvlm.data.synthetic.samples import _streams
from fastvlm.data.synthetic.sampling import MIN_CONTRAST
from fastvlm.data.synthetic.scene import Background, Box, SceneObject
from fastvlm.data.synthetic.shapes import MIN_SIZE_PX, ShapeForm


def scenes(number: int) -> list[Scene]:
    made = []
    for index in range(number):
        width_px, height_px = CANVAS_SIZES_PX[index % len(CANVAS_SIZES_PX)]
        made.append(sample_scene(random.Random(index), width_px=width_px, height_px=height_px))
    return made


SCENES = scenes(440)


def test_canvas_sizes_are_grids_of_at_most_16_cells() -> None:
    for width_px, height_px in CANVAS_SIZES_PX:
        assert width_px % 64 == 0 and height_px % 64 == 0 and width_px * height_px <= 16 * 64 * 64


def test_every_shape_and_color_appears() -> None:
    seen = {(item.shape, item.color) for scene in SCENES for item in scene.objects}
    assert {shape for shape, _ in seen} == set(SHAPES)
    assert {color for _, color in seen} == set(COLORS)
    assert len(SHAPES) == 9 and len(COLORS) == 11
    assert {scene.background.color for scene in SCENES} == {*COLORS, None}


def test_numbers_of_objects_reach_from_0_to_16() -> None:
    numbers = [len(scene.objects) for scene in SCENES]
    assert set(range(10)) <= set(numbers) and 10 <= max(numbers) <= 16


def test_objects_are_large_enough_whole_and_apart() -> None:
    for scene in SCENES:
        regions = [panel.box for panel in scene.panels] or [scene.frame]
        for index, item in enumerate(scene.objects):
            half = item.size_px / 2 - 0.02
            assert item.size_px >= MIN_SIZE_PX[item.shape] - 0.01
            assert any(
                region.left <= item.center_x_px - half
                and item.center_x_px + half <= region.right
                and region.top <= item.center_y_px - half
                and item.center_y_px + half <= region.bottom
                for region in regions
            )
            for other in scene.objects[:index]:
                reach = (item.size_px + other.size_px) / 2 - 0.03
                apart_x = abs(item.center_x_px - other.center_x_px)
                assert apart_x >= reach or abs(item.center_y_px - other.center_y_px) >= reach


def test_objects_stand_out_from_what_they_lie_on() -> None:
    for scene in SCENES:
        grounds = [panel.rgb for panel in scene.panels] or [scene.background.rgb]
        for item in scene.objects:
            assert min(color_distance(item.rgb, ground) for ground in grounds) >= 0.75 * MIN_CONTRAST
            assert scene.panels or item.color != scene.background.color


def test_named_colors_hold_the_ones_that_people_use() -> None:
    assert (0, 153, 255) in EXACT_COLORS["blue"] and (0, 0, 128) in EXACT_COLORS["blue"]
    assert (255, 255, 0) in EXACT_COLORS["yellow"]
    rng = random.Random(0)
    for _ in range(300):
        red, green, blue = sample_rgb(rng, color="blue")
        assert blue > red and blue > green


def test_picture_shows_the_colors_of_the_scene() -> None:
    for scene in SCENES[:60]:
        pixels = np.array(render(scene))
        assert pixels.shape == (scene.height_px, scene.width_px, 3)
        for item in scene.objects:
            if item.shape != "ring":
                assert tuple(pixels[int(item.center_y_px), int(item.center_x_px)]) == item.rgb


def test_drawing_at_any_scale_keeps_size_and_place() -> None:
    disc = SceneObject("circle", "red", 40, 50, 90, (255, 0, 0), ShapeForm(1.0, 0.0))
    scene = Scene(128, 128, Background("white", (255, 255, 255), (255, 255, 255)), (disc,))
    for seed in range(30):
        pixels = draw_scene(scene, random.Random(seed)).astype(int)
        is_red = pixels[..., 1] < 128
        rows, columns = np.nonzero(is_red)
        assert is_red.sum() == pytest.approx(np.pi * 20**2, rel=0.08)
        assert columns.mean() + 0.5 == pytest.approx(50, abs=0.7) and rows.mean() + 0.5 == pytest.approx(90, abs=0.7)


def test_same_sample_has_same_pixels_and_texts() -> None:
    def fingerprint(index: int) -> str:
        made = scene_sample("dev", index, width_px=256, height_px=192, num_questions=4, phrasing="train")
        texts = "|".join(f"{question.text}>{question.answer}" for question in made.questions)
        return hashlib.sha256(made.image.tobytes() + texts.encode() + repr(made.scene).encode()).hexdigest()

    assert [fingerprint(index) for index in range(20)] == [fingerprint(index) for index in range(20)]
    assert len({fingerprint(index) for index in range(20)}) == 20


def test_asking_otherwise_does_not_change_the_picture() -> None:
    one = scene_sample("train", 7, width_px=256, height_px=256, num_questions=2, phrasing="train")
    other = scene_sample("train", 7, width_px=256, height_px=256, num_questions=9, phrasing="held_out")
    assert one.scene == other.scene and np.array_equal(one.image, other.image)


def test_splits_share_no_scene() -> None:
    states = [
        stream.getstate()
        for split in ("train", "dev", "test")
        for index in range(200)
        for stream in _streams(split, index)
    ]
    assert len(set(states)) == len(states)
    pictures = {
        scene_sample(split, index, width_px=256, height_px=256, num_questions=1, phrasing="train").scene.objects
        for split in ("train", "dev", "test")
        for index in range(40)
    }
    assert len([objects for objects in pictures if objects]) >= 100


def test_label_maps_lie_where_the_picture_does() -> None:
    disc = SceneObject("circle", "red", 64, 64, 160, (255, 0, 0), ShapeForm(1.0, 0.0))
    dot = SceneObject("square", "blue", 12, 208, 48, (0, 0, 255), ShapeForm(1.0, 0.0))
    scene = Scene(256, 192, Background("white", (255, 255, 255), (255, 255, 255)), (disc, dot))
    shape_map, color_map = label_maps(scene)
    assert shape_map.shape == color_map.shape == (12, 16) and shape_map.dtype == np.int8
    cells = np.array(render(scene)).astype(int).reshape(12, 16, 16, 16, 3)
    covered = ((cells[..., 0] > 128) & (cells[..., 1] < 128)).mean(axis=(1, 3))
    assert np.array_equal(shape_map == SHAPES.index("circle") + 1, covered >= 0.25)
    assert np.array_equal(color_map == COLORS.index("red") + 1, covered >= 0.25)
    assert (shape_map == SHAPES.index("square") + 1).sum() == 1
    assert set(map(tuple, np.argwhere(color_map == COLORS.index("blue") + 1))) <= {(2, 12), (2, 13), (3, 12), (3, 13)}


def test_every_object_is_on_the_label_maps() -> None:
    for scene in SCENES[:150]:
        shape_map, color_map = label_maps(scene)
        assert set(np.unique(shape_map)) - {0} == {SHAPES.index(item.shape) + 1 for item in scene.objects}
        assert set(np.unique(color_map)) - {0} == {COLORS.index(item.color) + 1 for item in scene.objects}
        assert np.array_equal(shape_map > 0, color_map > 0)


def test_token_targets_count_every_object_once_in_its_cell() -> None:
    for scene in SCENES[:150]:
        targets = token_targets(scene)
        cells = scene.width_px // 64 * (scene.height_px // 64)
        assert targets.shape == (cells, NUM_TOKEN_FEATURES) and targets.dtype == np.float32
        num_objects = len(scene.objects)
        num_single = len(SHAPES) + len(COLORS)
        assert targets[:, : len(SHAPES)].sum() == targets[:, len(SHAPES) : num_single].sum() == num_objects
        assert targets[:, num_single:].sum() == num_objects
    item = SceneObject("ring", "pink", 30, 200, 70, (255, 100, 180), ShapeForm(0.6, 0.0))
    targets = token_targets(Scene(256, 128, Background("white", (255, 255, 255), (255, 255, 255)), (item,)))
    pair = len(SHAPES) + len(COLORS) + SHAPES.index("ring") * len(COLORS) + COLORS.index("pink")
    features = [SHAPES.index("ring"), len(SHAPES) + COLORS.index("pink"), pair]
    assert sorted(map(tuple, np.argwhere(targets))) == sorted((7, feature) for feature in features)


def test_padding_surrounds_the_frame() -> None:
    scene = Scene(128, 64, Background("red", (255, 0, 0), (255, 0, 0)), (), (), Box(16, 0, 112, 64), (1, 2, 3))
    pixels = np.array(render(scene))
    assert (pixels[:, :16] == (1, 2, 3)).all() and (pixels[:, 112:] == (1, 2, 3)).all()
    assert (pixels[:, 16:112] == (255, 0, 0)).all()


def test_contact_sheet_is_a_readable_picture(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "sheet.png", num_samples=2, columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 1080 and sheet.height > 256
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_committed_examples_are_those_that_the_function_writes(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[2] / "examples"
    if not folder.is_dir():
        pytest.skip("examples/ is not here")
    write_examples(tmp_path)
    assert (tmp_path / "README.md").read_text() == (folder / "README.md").read_text()
    for example in EXAMPLES:
        with Image.open(tmp_path / f"{example.name}.png") as made, Image.open(folder / f"{example.name}.png") as kept:
            assert made.size == kept.size and max(made.size) >= 384
            assert np.abs(np.array(made).astype(int) - np.array(kept).astype(int)).mean() < 1.0
