"""Generated scenes as files of the kind that people bring: pictures, and LLaVA's JSON about them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from fastvlm.data.synthetic.listing import in_reading_order
from fastvlm.data.synthetic.samples import scene_sample
from fastvlm.files import write_whole

_SIDE_PX = 256


def write_scene_conversations(folder: Path, *, num_scenes: int, is_captioned: bool, first: int = 0) -> Path:
    """Write scenes with their questions, or with a caption each; returns the JSON file. One that is there is kept.

    first: number of the first scene in the training split.
    """
    path = folder / "data.json"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, object]] = []
    for index in range(first, first + num_scenes):
        sample = scene_sample(
            "train", index, width_px=_SIDE_PX, height_px=_SIDE_PX, num_questions=4, phrasing="train"
        )  # fmt: skip
        Image.fromarray(sample.image).save(folder / f"{index}.png")
        record: dict[str, object] = {"id": f"scene-{index}", "image": f"{index}.png"}
        if is_captioned:
            records.append(record | {"caption": in_reading_order(sample.scene)})
            continue
        # What is outside of a model's domain it tells in words of its own.
        asked = [question for question in sample.questions if question.family != "outside"][:3]
        values = [value for question in asked for value in (question.text, question.answer)]
        values[0] = f"<image>\n{values[0]}"
        conversation = [
            {"from": "human" if place % 2 == 0 else "gpt", "value": value} for place, value in enumerate(values)
        ]
        records.append(record | {"conversations": conversation})
    write_whole(path, json.dumps(records, indent=1))
    return path
