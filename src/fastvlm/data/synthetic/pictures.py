"""Pictures for people: contact sheets to check the generator by eye, and the examples at the root of the repository."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fastvlm.data.synthetic.draw import render
from fastvlm.data.synthetic.palette import RGB
from fastvlm.data.synthetic.questions import Phrasing
from fastvlm.data.synthetic.samples import SceneSample, Split, scene_sample
from fastvlm.data.synthetic.scene import CANVAS_SIZES_PX, Background, Box, Panel, Scene, SceneObject
from fastvlm.data.synthetic.shapes import ShapeForm
from fastvlm.files import replacing, write_whole

_CELL_WIDTH_PX = 540
_LINE_PX = 15
_LINE_CHARACTERS = 84


def contact_sheet(
    path: Path,
    *,
    split: Split = "dev",
    first_index: int = 0,
    num_samples: int = 12,
    num_questions: int = 8,
    phrasing: Phrasing = "train",
    columns: int = 3,
    sizes_px: Sequence[tuple[int, int]] = CANVAS_SIZES_PX,
) -> None:
    """Write a PNG with pictures and, under each, its questions and answers."""
    cells = []
    for index in range(first_index, first_index + num_samples):
        width_px, height_px = sizes_px[index % len(sizes_px)]
        sample = scene_sample(
            split, index, width_px=width_px, height_px=height_px, num_questions=num_questions, phrasing=phrasing
        )
        cells.append(_cell(sample, index))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (_CELL_WIDTH_PX * columns, sum(heights)), (255, 255, 255))
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            sheet.paste(cell, (column * _CELL_WIDTH_PX, sum(heights[:number])))
    _save(sheet, path)


def _cell(sample: SceneSample, index: int) -> Image.Image:
    lines = [f"#{index}"]
    for question in sample.questions:
        lines += textwrap.wrap(f"{question.intent}: {question.text} -> {question.answer}", _LINE_CHARACTERS)
    height, width, _ = sample.image.shape
    cell = Image.new("RGB", (_CELL_WIDTH_PX, height + 12 + _LINE_PX * len(lines)), (255, 255, 255))
    cell.paste(Image.fromarray(sample.image), (4, 4))
    pen = ImageDraw.Draw(cell)
    pen.rectangle((3, 3, width + 4, height + 4), outline=(255, 0, 255))
    font = ImageFont.load_default(12)
    for number, line in enumerate(lines):
        pen.text((4, height + 8 + number * _LINE_PX), line, fill=(0, 0, 0), font=font)
    return cell


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)


@dataclass(frozen=True)
class Example:
    """A picture of the repository: drawn at `scale` times the scene's pixels, with questions and true answers."""

    name: str
    scene: Scene
    scale: float
    questions: tuple[tuple[str, str], ...]


def _object(shape: str, color: str, size_px: float, x_px: float, y_px: float, *, rgb: RGB) -> SceneObject:
    proportion = {"star": 0.4, "cross": 0.33, "diamond": 0.75, "ring": 0.58}.get(shape, 0.95)
    return SceneObject(shape, color, size_px, x_px, y_px, rgb, ShapeForm(proportion, 0.0))


def _plain(color: str | None, rgb: RGB) -> Background:
    return Background(color, rgb, rgb)


_RED: RGB = (220, 30, 40)
_BLUE: RGB = (20, 90, 220)
_YELLOW: RGB = (250, 215, 20)
_GREEN: RGB = (30, 140, 60)
_PURPLE: RGB = (120, 40, 160)
_ORANGE: RGB = (255, 140, 0)
_PINK: RGB = (255, 105, 180)
_BROWN: RGB = (139, 69, 19)
_BLACK: RGB = (15, 15, 15)
_WHITE: RGB = (255, 255, 255)

EXAMPLES: tuple[Example, ...] = (
    Example(
        "scene-shapes",
        Scene(
            256,
            256,
            _plain("white", _WHITE),
            (
                _object("circle", "red", 60, 56, 60, rgb=_RED),
                _object("square", "blue", 58, 190, 62, rgb=_BLUE),
                _object("star", "yellow", 66, 124, 134, rgb=_YELLOW),
                _object("triangle", "green", 58, 56, 206, rgb=_GREEN),
                _object("heart", "purple", 58, 196, 206, rgb=_PURPLE),
            ),
        ),
        2.0,
        (
            ("How many shapes are there?", "5"),
            ("What colour is the star?", "yellow"),
            ("What shape is the green object?", "triangle"),
            ("Where is the purple heart?", "bottom right"),
            ("Is the red circle to the left of the blue square?", "yes"),
            ("Is there a red square?", "no"),
            ("What colour is the background?", "white"),
        ),
    ),
    Example(
        "scene-counting",
        Scene(
            256,
            256,
            _plain("blue", (190, 215, 250)),
            (
                _object("star", "orange", 40, 42, 48, rgb=_ORANGE),
                _object("star", "orange", 40, 118, 40, rgb=_ORANGE),
                _object("star", "orange", 40, 204, 58, rgb=_ORANGE),
                _object("star", "purple", 40, 60, 130, rgb=_PURPLE),
                _object("star", "orange", 40, 140, 118, rgb=_ORANGE),
                _object("cross", "purple", 42, 212, 142, rgb=_PURPLE),
                _object("cross", "purple", 42, 92, 208, rgb=_PURPLE),
                _object("cross", "purple", 42, 172, 212, rgb=_PURPLE),
            ),
        ),
        2.0,
        (
            ("How many orange stars are there?", "4"),
            ("How many crosses do you see?", "3"),
            ("How many purple objects are in the picture?", "4"),
            ("Are there more stars than crosses?", "yes"),
            ("Which are there more of, crosses or stars?", "stars"),
            ("True or false: there are exactly two crosses.", "no"),
            ("Is there an orange cross?", "no"),
        ),
    ),
    Example(
        "scene-boxes",
        Scene(
            512,
            128,
            _plain("grey", (128, 128, 128)),
            (
                _object("square", "yellow", 26, 70, 114, rgb=(255, 255, 0)),
                _object("square", "blue", 26, 70, 87, rgb=(0, 153, 255)),
                _object("square", "black", 26, 70, 60, rgb=_BLACK),
                _object("circle", "yellow", 38, 226, 46, rgb=(255, 255, 0)),
                _object("triangle", "black", 26, 296, 92, rgb=_BLACK),
                _object("square", "blue", 14, 412, 30, rgb=(0, 153, 255)),
                _object("circle", "black", 38, 452, 84, rgb=_BLACK),
            ),
            (
                Panel(Box(0, 0, 148, 128), (211, 211, 211)),
                Panel(Box(182, 0, 330, 128), (211, 211, 211)),
                Panel(Box(364, 0, 512, 128), (211, 211, 211)),
            ),
        ),
        2.0,
        (
            ("How many black objects are there?", "3"),
            ("How many squares are there?", "4"),
            ("Is there a yellow circle?", "yes"),
            ("Is there a yellow triangle?", "no"),
            ("What is the rightmost object?", "a black circle"),
            ("Are there as many yellow objects as blue objects?", "yes"),
            ("What color is the background?", "gray"),
            ("What colour is the background?", "grey"),
        ),
    ),
    Example(
        "scene-sizes",
        Scene(
            320,
            192,
            _plain("green", (205, 240, 205)),
            (
                _object("triangle", "orange", 84, 76, 100, rgb=_ORANGE),
                _object("triangle", "blue", 40, 172, 56, rgb=_BLUE),
                _object("cross", "red", 24, 180, 148, rgb=_RED),
                _object("heart", "black", 42, 262, 104, rgb=_BLACK),
            ),
        ),
        1.6,
        (
            ("What is the largest object?", "an orange triangle"),
            ("What color is the smallest shape?", "red"),
            ("Is the blue triangle larger than the orange triangle?", "no"),
            ("What shape is the rightmost object?", "heart"),
            ("Is the red cross below the blue triangle?", "yes"),
            ("Where is the star?", "There is no star."),
        ),
    ),
    Example(
        "scene-dark",
        Scene(
            192,
            256,
            _plain("black", (10, 10, 14)),
            (
                _object("circle", "white", 60, 50, 48, rgb=_WHITE),
                _object("square", "yellow", 44, 144, 66, rgb=_YELLOW),
                _object("cross", "green", 48, 96, 132, rgb=(34, 160, 70)),
                _object("heart", "red", 58, 56, 214, rgb=_RED),
            ),
        ),
        2.0,
        (
            ("Describe the picture.", "a red heart, a yellow square, a green cross and a white circle"),
            ("What colour is the circle?", "white"),
            ("Where is the cross?", "centre"),
            ("Is the heart below the square?", "yes"),
            ("Is the background black?", "yes"),
            ("Are all the objects white?", "no"),
        ),
    ),
    Example(
        "scene-rings",
        Scene(
            256,
            192,
            _plain("yellow", (255, 250, 190)),
            (
                _object("ring", "brown", 56, 54, 50, rgb=_BROWN),
                _object("ring", "pink", 56, 202, 48, rgb=_PINK),
                _object("diamond", "pink", 52, 128, 96, rgb=_PINK),
                _object("ring", "brown", 56, 206, 142, rgb=_BROWN),
                _object("diamond", "blue", 52, 56, 144, rgb=_BLUE),
            ),
        ),
        2.0,
        (
            ("How many rings are there?", "3"),
            ("How many diamonds do you see?", "2"),
            ("Is there a pink diamond?", "yes"),
            ("Is there a brown diamond?", "no"),
            ("Is the pink ring to the right of the pink diamond?", "yes"),
            ("Where is the blue diamond?", "bottom left"),
            ("Are there more rings than diamonds?", "yes"),
            ("What colour is the background?", "yellow"),
        ),
    ),
)
"""Pictures that show what the embedded model knows of scenes."""


def write_examples(folder: Path) -> None:
    """Write the example pictures as PNG and a README.md that lists questions with their true answers."""
    lines = [
        "# Examples",
        "",
        "Made by `fastvlm.data.synthetic.pictures.write_examples`. Every answer is what is true of the picture; the "
        "embedded model gets some of them wrong. "
        "Documents have [a page of their own](documents.md).",
    ]
    for example in EXAMPLES:
        _save(render(example.scene, scale=example.scale), folder / f"{example.name}.png")
        lines += ["", f"## {example.name}.png", "", f"![{example.name}]({example.name}.png)", ""]
        lines += ["| question | answer |", "|---|---|"]
        lines += [f"| {question} | {answer} |" for question, answer in example.questions]
    write_whole(folder / "README.md", "\n".join(lines) + "\n")
