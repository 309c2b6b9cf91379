"""Labels of generated scenes lie where the picture does, and say of each place and token what a ruler says."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from fastvlm.data.synthetic import (
    CANVAS_SIZES_PX,
    COLORS,
    NUM_PAIRS,
    NUM_TOKEN_FEATURES,
    SHAPES,
    Scene,
    center_map,
    label_maps,
    render,
    sample_scene,
    token_features,
)
from fastvlm.data.synthetic.labels import (
    ABSENT_WEIGHT,
    MAX_NUMBERED_CELLS,
    NUM_STEPS,
    PLACE_WEIGHT,
    TOKEN_CELL_PX,
    cell_shares,
)
from fastvlm.data.synthetic.palette import BACKGROUND_COLORS
from fastvlm.data.synthetic.scene import Background, Box, SceneObject
from fastvlm.data.synthetic.shapes import ShapeForm

WHITE = Background("white", (255, 255, 255), (255, 255, 255))
FORM = ShapeForm(1.0, 0.0)


def scenes(number: int) -> list[Scene]:
    sizes = [CANVAS_SIZES_PX[index % len(CANVAS_SIZES_PX)] for index in range(number)]
    return [
        sample_scene(random.Random(index), width_px=width_px, height_px=height_px)
        for index, (width_px, height_px) in enumerate(sizes)
    ]


SCENES = scenes(150)


def pair(shape: str, color: str) -> int:
    return SHAPES.index(shape) * len(COLORS) + COLORS.index(color)


def test_label_maps_lie_where_the_picture_does() -> None:
    disc = SceneObject("circle", "red", 64, 64, 160, (255, 0, 0), FORM)
    dot = SceneObject("square", "blue", 12, 208, 48, (0, 0, 255), FORM)
    scene = Scene(256, 192, WHITE, (disc, dot))
    shape_map, color_map = label_maps(scene)
    assert shape_map.shape == color_map.shape == (12, 16) and shape_map.dtype == np.int8
    cells = np.array(render(scene)).astype(int).reshape(12, 16, 16, 16, 3)
    covered = ((cells[..., 0] > 128) & (cells[..., 1] < 128)).mean(axis=(1, 3))
    assert np.array_equal(shape_map == SHAPES.index("circle") + 1, covered >= 0.25)
    assert np.array_equal(color_map == COLORS.index("red") + 1, covered >= 0.25)
    assert (shape_map == SHAPES.index("square") + 1).sum() == 1
    assert set(map(tuple, np.argwhere(color_map == COLORS.index("blue") + 1))) <= {(2, 12), (2, 13), (3, 12), (3, 13)}


def test_every_object_is_on_the_label_maps() -> None:
    for scene in SCENES:
        shape_map, color_map = label_maps(scene)
        assert set(np.unique(shape_map)) - {0} == {SHAPES.index(item.shape) + 1 for item in scene.objects}
        assert set(np.unique(color_map)) - {0} == {COLORS.index(item.color) + 1 for item in scene.objects}
        assert np.array_equal(shape_map > 0, color_map > 0)


@pytest.mark.parametrize(("cell_px", "places"), [(16, ((4, 4), (8, 15))), (32, ((2, 2), (4, 7)))])
def test_center_map_marks_the_centres_and_nothing_else(cell_px: int, places: tuple[tuple[int, int], ...]) -> None:
    heart = SceneObject("heart", "purple", 60, 79.9, 64, (120, 40, 160), FORM)
    star = SceneObject("star", "white", 18, 250, 143, (255, 255, 255), FORM)
    centers = center_map(Scene(256, 192, WHITE, (heart, star)), cell_px)
    expected = np.zeros((192 // cell_px, 256 // cell_px), np.int8)
    expected[places[0]] = pair("heart", "purple") + 1
    expected[places[1]] = pair("star", "white") + 1
    assert centers.dtype == np.int8 and np.array_equal(centers, expected)


def test_of_two_centres_in_one_cell_one_is_given() -> None:
    left = SceneObject("star", "red", 18, 66, 70, (255, 0, 0), FORM)
    right = replace(left, color="blue", center_x_px=90)
    scene = Scene(128, 128, WHITE, (left, right))
    assert (center_map(scene, 16) > 0).sum() == 2
    (number,) = center_map(scene, 32)[center_map(scene, 32) > 0]
    assert number in (pair("star", "red") + 1, pair("star", "blue") + 1)


def test_center_map_knows_every_object_and_no_more_classes_than_there_are_pairs() -> None:
    for scene in SCENES:
        found = set(np.unique(center_map(scene))) - {0}
        there = {pair(item.shape, item.color) + 1 for item in scene.objects}
        cells = {(item.center_x_px // 16, item.center_y_px // 16) for item in scene.objects}
        assert found <= there <= set(range(1, NUM_PAIRS + 1))
        assert (center_map(scene) > 0).sum() == len(cells)


def test_token_features_say_of_every_object_once_what_and_where_it_is() -> None:
    num_groups = len(SHAPES) + len(COLORS)
    for scene in SCENES:
        features, weights = token_features(scene)
        cells = scene.width_px // TOKEN_CELL_PX * (scene.height_px // TOKEN_CELL_PX)
        assert features.shape == weights.shape == (cells, NUM_TOKEN_FEATURES)
        assert features.dtype == weights.dtype == np.float32 and (weights > 0).all()
        pairs, numbers = np.split(features[:, : NUM_PAIRS + num_groups + 1], [NUM_PAIRS], axis=1)
        for counted in (pairs, numbers[:, -1]):
            assert counted.sum() == pytest.approx(len(scene.objects), abs=1e-4)
        np.testing.assert_allclose(numbers[:, : len(SHAPES)].sum(1), numbers[:, -1], atol=1e-6)
        np.testing.assert_allclose(numbers[:, len(SHAPES) : num_groups].sum(1), numbers[:, -1], atol=1e-6)
        values = features[:, NUM_PAIRS + num_groups + 1 :][:, : 3 + NUM_STEPS]
        assert not values[numbers[:, -1] == 0].any()
        assert ((values[:, 3:] >= 0) & (values[:, 3:] <= 1)).all() and (abs(values[:, :2]) <= 2).all()


def test_token_features_of_a_scene_made_by_hand() -> None:
    """4 x 2 cells, of which the picture fills the left 96 px: a star in the first cell, a heart in the sixth, and a
    circle of which seven tenths belong to the sixth and three tenths to the seventh."""
    scene = Scene(
        128,
        64,
        WHITE,
        (
            SceneObject("heart", "purple", 16, 42, 50, (120, 40, 160), FORM),
            SceneObject("star", "red", 10, 5, 10, (255, 0, 0), FORM),
            SceneObject("circle", "purple", 24, 62.72, 48, (120, 40, 160), FORM),
        ),
        frame=Box(0, 0, 96, 64),
    )
    pairs = np.zeros((8, NUM_PAIRS))
    pairs[5, pair("heart", "purple")] = 1
    pairs[[5, 6], pair("circle", "purple")] = (0.7, 0.3)
    pairs[0, pair("star", "red")] = 1
    counts = np.zeros((8, len(SHAPES) + len(COLORS) + 1))
    counts[5, SHAPES.index("heart")] = 1
    counts[[5, 6], SHAPES.index("circle")] = (0.7, 0.3)
    counts[[5, 6], len(SHAPES) + COLORS.index("purple")] = counts[[5, 6], -1] = (1.7, 0.3)
    counts[0, [SHAPES.index("star"), len(SHAPES) + COLORS.index("red"), -1]] = 1
    # Across, heart, star and circle are at 0.4375, 0.052 and 0.653 of the picture, down at 0.781, 0.156 and 0.75, and
    # 0.25, 0.156 and 0.375 large; a mark must be passed, so that 0.75 down passes 14 and not 15 of the 19.
    own_values = {
        name: [4 * across - 2, 4 * down - 2, 4 * size, *[1] * num_across, *[0] * (19 - num_across), *[1] * num_down,
               *[0] * (19 - num_down), *[1] * num_sizes, *[0] * (5 - num_sizes)]
        for name, across, down, size, num_across, num_down, num_sizes in (
            ("heart", 42 / 96, 50 / 64, 16 / 64, 8, 15, 3),
            ("star", 5 / 96, 10 / 64, 10 / 64, 1, 3, 1),
            ("circle", 62.72 / 96, 48 / 64, 24 / 64, 13, 14, 5),
        )
    }  # fmt: skip
    heart, star, circle = (np.array(own_values[name]) for name in ("heart", "star", "circle"))
    values = np.zeros((8, 3 + NUM_STEPS))
    values[0], values[5], values[6] = star, (heart + 0.7 * circle) / 1.7, circle
    # The number of each cell's column and row, four columns and two rows over eight, and a white background.
    around = np.zeros((8, 2 * MAX_NUMBERED_CELLS + 2 + len(BACKGROUND_COLORS)))
    around[np.arange(8), [0, 1, 2, 3] * 2] = 1
    around[np.arange(8), [MAX_NUMBERED_CELLS] * 4 + [MAX_NUMBERED_CELLS + 1] * 4] = 1
    around[:, 2 * MAX_NUMBERED_CELLS : 2 * MAX_NUMBERED_CELLS + 2] = (0.5, 0.25)
    around[:, 2 * MAX_NUMBERED_CELLS + 2 + BACKGROUND_COLORS.index("white")] = 1
    value_weights = np.full(values.shape, ABSENT_WEIGHT)
    value_weights[[0, 5]] = PLACE_WEIGHT
    value_weights[6] = 0.7 * ABSENT_WEIGHT + 0.3 * PLACE_WEIGHT
    weights = [np.ones(pairs.shape), np.ones(counts.shape), value_weights, np.full(around.shape, PLACE_WEIGHT)]
    features, importance = token_features(scene)
    np.testing.assert_allclose(features, np.concatenate([pairs, counts, values, around], axis=1), atol=1e-6)
    np.testing.assert_allclose(importance, np.concatenate(weights, axis=1), atol=1e-6)
    assert 0 < ABSENT_WEIGHT < PLACE_WEIGHT < 1


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (48, 48, {5: 1.0}),
        (32, 48, {4: 0.5, 5: 0.5}),
        (33.6, 48, {4: 0.25, 5: 0.75}),
        (36, 48, {5: 1.0}),
        (64, 32, {1: 0.25, 2: 0.25, 5: 0.25, 6: 0.25}),
        (2, 1, {0: 1.0}),
        (127, 63, {7: 1.0}),
        (128, 64, {7: 1.0}),
    ],
)
def test_an_object_passes_from_one_cell_to_the_next_gradually(x: float, y: float, expected: dict[int, float]) -> None:
    """2 rows of 4 cells of 32 px; the share passes between 3.2 px before a border and 3.2 px behind it."""
    item = SceneObject("star", "red", 20, x, y, (255, 0, 0), FORM)
    assert dict(cell_shares(item, 2, 4, 32)) == pytest.approx(expected)


def test_a_pixel_changes_little() -> None:
    """Walking over a whole row of cells, no share jumps."""
    columns = 6
    rows = np.zeros((columns * 32 + 1, columns))
    for x in range(columns * 32 + 1):
        for number, share in cell_shares(SceneObject("star", "red", 9, x, 16, (0, 0, 0), FORM), 1, columns, 32):
            rows[x, number] += share
    np.testing.assert_allclose(rows.sum(1), 1)
    assert np.abs(np.diff(rows, axis=0)).max() < 1 / 6


def test_a_background_that_people_would_dispute_has_no_colour() -> None:
    nameless = Background(None, (240, 236, 230), (240, 236, 230))
    assert not token_features(Scene(64, 64, nameless, ()))[0][:, -len(BACKGROUND_COLORS) :].any()


def test_cells_beyond_the_numbered_ones_share_the_last_number() -> None:
    features, _ = token_features(Scene(TOKEN_CELL_PX * 18, TOKEN_CELL_PX * 17, WHITE, ()))
    end = len(features[0]) - 2 - len(BACKGROUND_COLORS)
    marks = features[:, end - 2 * MAX_NUMBERED_CELLS : end].reshape(17, 18, 2, MAX_NUMBERED_CELLS)
    assert np.array_equal(marks.sum(-1), np.ones((17, 18, 2)))
    assert marks[4, :, 0].argmax(-1).tolist() == [*range(16), 15, 15]
    assert marks[:, 4, 1].argmax(-1).tolist() == [*range(16), 15]
