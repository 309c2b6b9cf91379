"""The listing of a scene names every object in the order of the visual tokens."""

from __future__ import annotations

import random
from dataclasses import replace

from fastvlm.data.synthetic.listing import EMPTY_LISTING, REQUESTS, list_objects
from fastvlm.data.synthetic.samples import scene_sample


def test_listing_names_every_object_cell_by_cell() -> None:
    sample = scene_sample("dev", 4, width_px=256, height_px=192, num_questions=0, phrasing="train")
    request, answer = list_objects(sample.scene, random.Random(0))
    assert request in REQUESTS
    expected = []
    for row in range(3):
        for column in range(4):
            inside = [
                item
                for item in sample.scene.objects
                if (int(item.center_y_px // 64), int(item.center_x_px // 64)) == (row, column)
            ]
            expected += [f"{item.color} {item.shape}" for item in sorted(inside, key=lambda item: item.center_x_px)]
    assert answer == ", ".join(expected)
    assert len(sample.scene.objects) > 1


def test_empty_scene_has_nothing_to_list() -> None:
    sample = scene_sample("dev", 4, width_px=256, height_px=192, num_questions=0, phrasing="train")
    assert list_objects(replace(sample.scene, objects=()), random.Random(0))[1] == EMPTY_LISTING
