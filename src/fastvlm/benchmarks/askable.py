"""Checkpoints with random weights that can be asked in words, as if they had been downloaded."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fastvlm.benchmarks.questions import Question
from fastvlm.benchmarks.shapes import random_checkpoint, shape_config
from fastvlm.checkpoints.stored import RANGES_FILE
from fastvlm.checkpoints.tensors import StoredTensor, read_tensors
from fastvlm.messages import ImagePart, user
from fastvlm.models.config import VLMConfig
from fastvlm.processing.pieces import TextPiece
from fastvlm.processing.templates import template_from_dict
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe

QUESTION = "What is in this picture?"

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
_LONGEST_WORD = 9
_PICTURE_SIZE_PX = (1600, 1200)
_COARSE_SIZE_PX = (100, 75)
_CALIBRATION_PX = 256
"""Side of the picture on which an encoder is calibrated; speed does not depend on what is measured there."""


def askable_checkpoint(
    shape: str, folder: Path, *, layout: Literal["fastvlm", "transformers"] = "transformers"
) -> Path:
    """A checkpoint of a shape with random weights and a tokenizer of as many words as its decoder knows; in our own
    layout it is calibrated, too."""
    place = random_checkpoint(shape, folder, layout=layout)
    config = shape_config(shape)
    random_tokenizer(config.decoder.vocabulary_size).save(place / "tokenizer.json")
    if layout == "fastvlm":
        measured_ranges(config, read_tensors(place), place)
    return place


def random_tokenizer(vocabulary_size: int, *, seed: int = 0) -> Tokenizer:
    """A byte-level tokenizer so large that reading it takes as long as that of a model.

    It knows the words of the question and around it, as a model's does, so that prompts are as long; all other pairs
    are random.
    """
    learnt = train_byte_level_bpe(
        [QUESTION, *_words_around()], vocabulary_size=vocabulary_size, special_tokens=_SPECIAL_TOKENS
    )
    described = json.loads(learnt.to_json())
    vocabulary, merges = described["model"]["vocab"], described["model"]["merges"]
    generator = random.Random(seed)
    letters = sorted(word for word in vocabulary if len(word) == 1)
    words = list(letters)
    while len(vocabulary) < vocabulary_size:
        left, right = generator.choice(words), generator.choice(letters)
        if len(left) < _LONGEST_WORD and left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            merges.append([left, right])
            words.append(left + right)
    return Tokenizer.from_json(json.dumps(described))


def _words_around() -> list[str]:
    """What the template of the released models writes around a question about a picture."""
    pieces = template_from_dict("qwen_2").render([user(ImagePart(""), QUESTION)])
    return [piece.text for piece in pieces if isinstance(piece, TextPiece)]


def random_picture(generator: np.random.Generator) -> Image.Image:
    """Random colours that flow into each other, as in a photo."""
    coarse = generator.integers(0, 256, (*_COARSE_SIZE_PX[::-1], 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(_PICTURE_SIZE_PX, Image.Resampling.BICUBIC)


def measured_ranges(config: VLMConfig, tensors: dict[str, StoredTensor], folder: Path) -> dict[str, float]:
    """How far the inputs of an encoder's layers reach, measured once on random pixels and kept beside a checkpoint."""
    from fastvlm.runtimes.openvino.calibration import keep_ranges

    file = folder / RANGES_FILE
    keep_ranges(file, config, tensors, [Question(_CALIBRATION_PX, 2).pixels()])
    ranges: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return ranges
