"""Every object of a scene in reading order: the densest thing to say about a picture, for aligning words and places."""

from __future__ import annotations

import random

from fastvlm.data.synthetic.scene import Scene, SceneObject

EMPTY_LISTING = "nothing"

REQUESTS = (
    "List the objects.",
    "List all objects in reading order.",
    "Name every shape from top left to bottom right.",
    "Which objects are there, in reading order?",
)


def list_objects(scene: Scene, rng: random.Random, *, cell_px: int = 64) -> tuple[str, str]:
    """Give a request and its answer, such as `red star, small blue circle`.

    The order is that of the visual tokens: cells of 64 px row by row, and from left to right inside a cell.
    """

    def place(item: SceneObject) -> tuple[int, int, float]:
        return int(item.center_y_px // cell_px), int(item.center_x_px // cell_px), item.center_x_px

    names = [f"{item.color} {item.shape}" for item in sorted(scene.objects, key=place)]
    return rng.choice(REQUESTS), ", ".join(names) or EMPTY_LISTING
