"""Towers are asked about shards and folders of pictures; one that sees colours alone shows how that is counted."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from fastvlm.errors import DataError
from fastvlm.processing.captions import END, START
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe
from fastvlm.recipes.pretrain import SCORES_FILE, clip_smoke, run
from fastvlm.recipes.tower_scores import TowerScorer, TowerScores

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    words = [f"a photo of a {name}. {phrase}" for name in COLORS for phrase in ("picture", "image of an object")]
    return train_byte_level_bpe(words * 5, vocabulary_size=300, special_tokens=(START, END))


class SeesColors:
    """A pair of towers: pictures by their mean colour, captions by the name of a colour in them."""

    config = SimpleNamespace(text=SimpleNamespace(context_length=40))

    def __init__(self, tokenizer: Tokenizer, *, mistakes: tuple[str, ...] = ()) -> None:
        self.tokenizer, self.mistakes = tokenizer, mistakes

    def cpu(self) -> SeesColors:
        return self

    def eval(self) -> SeesColors:
        return self

    def embed_pictures(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.normalize(pixels.mean((2, 3)), dim=-1)

    def embed_words(self, token_ids: Tensor) -> Tensor:
        texts = [self.tokenizer.decode([int(one) for one in row if one > 0]) for row in token_ids]
        named = [next(name for name in COLORS if name in text) for text in texts]
        shown = [COLORS["red" if name in self.mistakes else name] for name in named]
        return torch.nn.functional.normalize(torch.tensor(shown, dtype=torch.float32), dim=-1)


def scorer(tokenizer: Tokenizer, **changes: Any) -> TowerScorer:
    towers: Any = SeesColors(tokenizer, **changes)
    return TowerScorer(towers, tokenizer, size_px=32, tell=lambda _: None)


def png(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40), COLORS[name]).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "val.tar"
    with tarfile.open(path, "w") as tar:
        for name in COLORS:
            for ending, data in (("png", png(name)), ("txt", f"a photo of a {name}".encode())):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in (("red", 1), ("green", 3), ("blue", 2)):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "classes" / name / f"{number}.png").write_bytes(png(name))
    (tmp_path / "classes" / "notes.txt").write_text("no class")
    return tmp_path / "classes"


def test_captions_and_pictures_find_each_other(tokenizer: Tokenizer, shard: Path) -> None:
    found, count = scorer(tokenizer).retrieval([shard])
    assert count == 3
    assert found.picture_to_words == found.words_to_picture == (1.0, 1.0, 1.0)
    worse, _ = scorer(tokenizer, mistakes=("blue",)).retrieval([shard])
    assert worse.words_to_picture == pytest.approx((2 / 3, 1, 1))


def test_pictures_are_told_by_the_names_of_their_folders(tokenizer: Tokenizer, folder: Path) -> None:
    assert scorer(tokenizer).classes(folder) == 1.0
    # Green pictures are like nothing then, and the red one as like green, which comes first.
    assert scorer(tokenizer, mistakes=("green",)).classes(folder) == pytest.approx(2 / 6)
    with pytest.raises(DataError, match=r"several classes.*got 0"):
        scorer(tokenizer).classes(folder / "red")


def test_scores_are_told_in_lines(tokenizer: Tokenizer, shard: Path) -> None:
    found, count = scorer(tokenizer, mistakes=("blue",)).retrieval([shard])
    lines = list(TowerScores(generated=0.5, retrieval=found, num_pictures=count, classes=0.25).lines())
    assert "zero-shot: 50.0 % of pictures of 20 classes never captioned" in lines
    assert "pictures by captions, R@1/R@5/R@10 of 3: 66.7 / 100.0 / 100.0 %" in lines
    assert "zero-shot: 25.0 % of the pictures in folders by class" in lines
    assert list(TowerScores().lines()) == []


def test_a_pretraining_is_asked_in_the_end(shard: Path, folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    recipe = replace(clip_smoke(), num_steps=2, validation_shards=(str(shard),), class_folder=folder)
    run(recipe, tmp_path / "run", tell=told.append)
    scores = json.loads((tmp_path / "run" / SCORES_FILE).read_text())
    assert scores["num_pictures"] == 3 and 0 <= scores["classes"] <= 1 and 0 <= scores["generated"] <= 1
    assert len(scores["retrieval"]["picture_to_words"]) == 3
    assert sum("R@1" in line for line in told) == 2
    again = replace(recipe, validation_shards=(), class_folder=None)
    run(again, tmp_path / "run")
    assert json.loads((tmp_path / "run" / SCORES_FILE).read_text()) == scores, "what was not asked again is kept"
    with pytest.raises(DataError, match=r"several classes.*got 0"):
        run(replace(recipe, class_folder=folder / "red"), tmp_path / "other")
    with pytest.raises(DataError, match="found none"):
        run(replace(recipe, validation_shards=(str(tmp_path / "none*.tar"),)), tmp_path / "other")
