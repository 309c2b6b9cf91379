"""An unseen task on two cores: 200 signs with Roman numerals teach the embedded model to read them."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

import fastvlm
from fastvlm.recipes.finetune import FinetuneRecipe, run

NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
QUESTION = "Which number is on the sign?"
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSansMono.ttf")


def sign(text: str, generator: random.Random) -> Image.Image:
    """A sign with a border somewhere in a picture, dark on light, in one of matplotlib's typefaces."""
    import matplotlib

    size = generator.choice(((256, 256), (320, 192), (192, 320)))
    light = tuple(generator.randint(150, 235) for _ in range(3))
    dark = tuple(generator.randint(0, 80) for _ in range(3))
    picture = Image.new("RGB", size, light)
    pen = ImageDraw.Draw(picture)
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / generator.choice(FONTS)
    for points in range(generator.randint(48, 72), 8, -4):
        font = ImageFont.truetype(str(path), points)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        if right - left + 20 <= size[0]:
            break
    x = generator.randint(10, int(size[0] - right + left - 10))
    y = generator.randint(10, int(size[1] - bottom + top - 10))
    box = (x - 10, y - 10, x + right - left + 10, y + bottom - top + 10)
    pen.rounded_rectangle(box, 8, fill=tuple(value + 20 for value in light), outline=dark, width=3)
    pen.text((x - left, y - top), text, font=font, fill=dark)
    return picture


def write_signs(folder: Path, *, seed: int, count: int = 200) -> Path:
    folder.mkdir()
    generator, records = random.Random(seed), []
    for number in range(count):
        value = number % len(NUMERALS)
        sign(NUMERALS[value], generator).save(folder / f"{number}.png")
        turns = [{"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": str(value + 1)}]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(records))
    return folder / "data.json"


def accuracy(model: Path | None, data: Path) -> float:
    """Per cent of signs that are read right."""
    assistant = fastvlm.load(model)
    records = json.loads(data.read_text())
    right = sum(
        assistant.ask(QUESTION, images=[data.parent / record["image"]]).text == record["conversations"][1]["value"]
        for record in records
    )
    return 100 * right / len(records)


@pytest.mark.slow
def test_an_unseen_task_is_learned_from_two_hundred_examples(tmp_path: Path) -> None:
    train, unseen = write_signs(tmp_path / "train", seed=1), write_signs(tmp_path / "unseen", seed=2)
    before = accuracy(None, unseen)
    started_s = time.monotonic()
    recipe = FinetuneRecipe(model=None, data=(str(train),), num_epochs=40, batch_size=16, learning_rate=1e-3)
    model = run(recipe, tmp_path / "run")
    minutes = (time.monotonic() - started_s) / 60
    after = accuracy(model, unseen)
    print(f"\nread right, of 200 unseen signs: {before:.1f} % before, {after:.1f} % after {minutes:.1f} minutes")
    assert after - before >= 40 and minutes < 15


@pytest.mark.slow
def test_kept_features_make_an_epoch_three_times_as_fast(tmp_path: Path) -> None:
    """Medians of three alternating runs of two epochs, from the steps' own rates."""
    train = write_signs(tmp_path / "train", seed=1)
    rates: dict[bool, list[float]] = {True: [], False: []}
    for repeat in range(3):
        for keeps in rates:
            recipe = FinetuneRecipe(
                model=None, data=(str(train),), num_epochs=3, batch_size=16, validation_share=0, keeps_features=keeps,
                learning_rate=1e-3,
            )  # fmt: skip
            seen: list[float] = []
            place = tmp_path / f"{repeat}-{keeps}"
            run(recipe, place, report=lambda _, step, seen=seen: seen.append(step.steps_per_second))
            rates[keeps].append(sorted(seen)[len(seen) // 2])
    kept, encoded = (sorted(rates[keeps])[1] for keeps in (True, False))
    print(f"\nsteps a second: {kept:.2f} with kept features, {encoded:.2f} without, {kept / encoded:.1f} times as fast")
    assert kept / encoded >= 3
