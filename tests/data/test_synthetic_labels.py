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
from fastvlm.data.synthetic.labels import ABSENT_WEIGHT, MAX_NUMBERED_CELLS, PLACE_WEIGHT
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
        cells = scene.width_px // 64 * (scene.height_px // 64)
        assert features.shape == weights.shape == (cells, NUM_TOKEN_FEATURES)
        assert features.dtype == weights.dtype == np.float32 and (weights > 0).all()
        groups = features[:, NUM_PAIRS : NUM_PAIRS + 4 * (num_groups + 1)].reshape(cells, num_groups + 1, 4)
        numbers = groups[..., 0]
        assert features[:, :NUM_PAIRS].sum() == numbers[:, -1].sum() == len(scene.objects)
        assert np.array_equal(numbers[:, : len(SHAPES)].sum(1), numbers[:, -1])
        assert np.array_equal(numbers[:, len(SHAPES) : num_groups].sum(1), numbers[:, -1])
        assert not groups[numbers == 0].any()
        steps = features[:, NUM_PAIRS + 4 * (num_groups + 1) : -2 * MAX_NUMBERED_CELLS - 4]
        assert ((steps >= 0) & (steps <= 1)).all() and not steps[numbers[:, -1] == 0].any()


def test_token_features_of_a_scene_made_by_hand() -> None:
    """4 x 2 cells, of which the picture fills the left 192 px: a star in the first cell, two objects in the sixth."""
    scene = Scene(
        256,
        128,
        WHITE,
        (
            SceneObject("heart", "purple", 32, 72, 100, (120, 40, 160), FORM),
            SceneObject("star", "red", 20, 10, 20, (255, 0, 0), FORM),
            SceneObject("circle", "purple", 48, 120, 70, (120, 40, 160), FORM),
        ),
        frame=Box(0, 0, 192, 128),
    )
    heart, star, circle = (-1.75, 1.125, 2.0), (-3.6875, -1.375, 1.25), (-0.25, 0.1875, 3.0)
    both = (-1.0, 0.65625, 2.5)
    pairs = np.zeros((8, NUM_PAIRS))
    pairs[5, [pair("heart", "purple"), pair("circle", "purple")]] = 1
    pairs[0, pair("star", "red")] = 1
    groups = np.zeros((8, len(SHAPES) + len(COLORS) + 1, 4))
    for cell, group, number, values in (
        (5, SHAPES.index("heart"), 1, heart),
        (5, SHAPES.index("circle"), 1, circle),
        (5, len(SHAPES) + COLORS.index("purple"), 2, both),
        (5, len(SHAPES) + len(COLORS), 2, both),
        (0, SHAPES.index("star"), 1, star),
        (0, len(SHAPES) + COLORS.index("red"), 1, star),
        (0, len(SHAPES) + len(COLORS), 1, star),
    ):
        groups[cell, group] = (number, *values)
    steps = np.zeros((8, 9 + 9 + 5))
    # Across, heart and circle are at 0.375 and 0.625 of the picture, down at 0.78 and 0.55, and 0.25 and 0.375 large.
    steps[5, :9] = [1, 1, 1, 0.5, 0.5, 0.5, 0, 0, 0]
    steps[5, 9:18] = [1, 1, 1, 1, 1, 0.5, 0.5, 0, 0]
    steps[5, 18:] = [1, 1, 1, 0.5, 0.5]
    # The star is at 0.05 across, at 0.16 down, and 0.156 large, a little less than the second mark.
    steps[0, [9, 18]] = 1
    # The number of each cell's column and row, its place, and four columns and two rows over four.
    marks = np.zeros((8, 2 * MAX_NUMBERED_CELLS))
    marks[np.arange(8), [0, 1, 2, 3] * 2] = 1
    marks[np.arange(8), [MAX_NUMBERED_CELLS] * 4 + [MAX_NUMBERED_CELLS + 1] * 4] = 1
    place = [(across, down, 1.0, 0.5) for down in (-1, 1) for across in (-3, -1, 1, 3)]
    expected = np.concatenate([pairs, groups.reshape(8, -1), steps, marks, np.array(place)], axis=1)
    group_weights = np.full(groups.shape, ABSENT_WEIGHT)
    group_weights[groups[..., 0] > 0] = PLACE_WEIGHT
    group_weights[..., 0] = 1
    step_weights = np.full(steps.shape, ABSENT_WEIGHT)
    step_weights[[0, 5]] = PLACE_WEIGHT
    mark_weights = np.full((8, 2 * MAX_NUMBERED_CELLS + 4), PLACE_WEIGHT)
    weights = [np.ones(pairs.shape), group_weights.reshape(8, -1), step_weights, mark_weights]
    features, importance = token_features(scene)
    np.testing.assert_allclose(features, expected, atol=1e-6)
    np.testing.assert_allclose(importance, np.concatenate(weights, axis=1), atol=1e-6)
    assert 0 < ABSENT_WEIGHT < PLACE_WEIGHT < 1


def test_cells_beyond_the_numbered_ones_share_the_last_number() -> None:
    features, _ = token_features(Scene(64 * 10, 64 * 9, WHITE, ()))
    marks = features[:, -2 * MAX_NUMBERED_CELLS - 4 : -4].reshape(9, 10, 2, MAX_NUMBERED_CELLS)
    assert np.array_equal(marks.sum(-1), np.ones((9, 10, 2)))
    assert marks[4, :, 0].argmax(-1).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert marks[:, 4, 1].argmax(-1).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7]
