"""Generated scenes: the declared domain, determinism, pictures that show what the scene says."""

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
    SHAPES,
    Scene,
    draw_scene,
    render,
    sample_scene,
    scene_sample,
)
from fastvlm.data.synthetic.facts import SceneFacts
from fastvlm.data.synthetic.intents import Draft
from fastvlm.data.synthetic.palette import BACKGROUND_COLORS, EXACT_COLORS, color_distance, sample_rgb
from fastvlm.data.synthetic.phrasings import PHRASINGS
from fastvlm.data.synthetic.pictures import EXAMPLES, Example, contact_sheet, write_examples
from fastvlm.data.synthetic.questions import BUILDERS
from fastvlm.data.synthetic.samples import _streams
from fastvlm.data.synthetic.sampling import MIN_CONTRAST
from fastvlm.data.synthetic.scene import Background, Box, SceneObject
from fastvlm.data.synthetic.shapes import MIN_SIZE_PX, ShapeForm
from fastvlm.data.synthetic.statements import STATEMENTS
from fastvlm.data.synthetic.wording import american, fill, spelled_like


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
    assert SHAPES == ("circle", "square", "triangle", "star", "cross", "heart", "diamond", "ring")
    assert COLORS == ("red", "orange", "yellow", "green", "blue", "purple", "black", "white", "pink", "brown")
    assert (*COLORS, "grey") == BACKGROUND_COLORS
    assert {scene.background.color for scene in SCENES} == {*BACKGROUND_COLORS, None}


def test_numbers_of_objects_reach_from_0_to_9_and_in_panels_to_16() -> None:
    numbers = {len(scene.objects) for scene in SCENES if not scene.panels}
    in_panels = {len(scene.objects) for scene in SCENES if scene.panels}
    assert numbers == set(range(10))
    assert set(range(10)) <= in_panels and 10 <= max(in_panels) <= 16


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
            is_filled = tuple(pixels[int(item.center_y_px), int(item.center_x_px)]) == item.rgb
            assert is_filled != (item.shape == "ring")


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


def test_what_is_not_drawn_is_asked_about_all_the_same() -> None:
    for index in range(20):
        drawn, undrawn = (
            scene_sample(
                "train", index, width_px=256, height_px=192, num_questions=5, phrasing="train", is_drawn=is_drawn
            )
            for is_drawn in (True, False)
        )
        assert undrawn.scene == drawn.scene and undrawn.questions == drawn.questions
        assert undrawn.image.shape == drawn.image.shape == (192, 256, 3) and undrawn.image.dtype == np.uint8
        assert drawn.image.any() and not undrawn.image.any()


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


def test_examples_are_scenes_of_the_declared_domain() -> None:
    shown = [item for example in EXAMPLES for item in example.scene.objects]
    assert {item.shape for item in shown} == set(SHAPES) and {item.color for item in shown} == set(COLORS)
    for example in EXAMPLES:
        scene = example.scene
        assert len(scene.objects) <= (16 if scene.panels else 9)
        assert (scene.width_px, scene.height_px) in CANVAS_SIZES_PX and scene.background.color in BACKGROUND_COLORS
        grounds = [panel.rgb for panel in scene.panels] or [scene.background.rgb]
        for item in scene.objects:
            assert item.size_px >= MIN_SIZE_PX[item.shape]
            assert min(color_distance(item.rgb, ground) for ground in grounds) >= MIN_CONTRAST


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_answers_of_the_examples_are_those_of_the_generator(example: Example) -> None:
    """Every question of the page is one that the generator asks about the picture, in words that it trains with."""
    facts, rng = SceneFacts(example.scene), random.Random(0)
    expected = {text: {answer} for text, answer in example.questions}
    answers: dict[str, set[str]] = {}
    for builder in BUILDERS.values():
        drafts = {repr(draft): draft for draft in (builder(facts, rng) for _ in range(5000)) if draft is not None}
        for draft in drafts.values():
            for text in _wordings(draft, rng):
                for spelled in {text, american(text)} & expected.keys():
                    answers.setdefault(spelled, set()).add(spelled_like(draft.answer, spelled))
    assert answers == expected


def _wordings(draft: Draft, rng: random.Random) -> list[str]:
    is_statement = draft.kind.startswith("statement:")
    phrasings = STATEMENTS[draft.kind.removeprefix("statement:")] if is_statement else PHRASINGS[draft.kind]
    places = ("", " in the picture")
    templates = {
        template.replace("{where}", place).replace("{where_or_visible}", place or " visible")
        for template in phrasings.train
        for place in places
    }
    texts = [fill(template, dict(draft.slots), rng) for template in sorted(templates)]
    return [f"True or false: {text}." for text in texts] if is_statement else texts
