"""A model of a few thousand weights, its dense heads, and generated batches for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastvlm.data.collate import Collator
from fastvlm.data.sources import SceneBatches
from fastvlm.data.synthetic import COLORS, NUM_PAIRS, NUM_TOKEN_FEATURES, SHAPES
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.training.tasks.dense import DenseHeads, DenseTargets

VISION = FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), layer_scale_init=0.1, form="train")
DECODER = DecoderConfig(
    vocabulary_size=320, width=64, num_layers=5, num_heads=2, num_key_value_heads=1, feed_forward_width=128,
    head_dim=32, max_positions=256,
)  # fmt: skip
TARGETS = DenseTargets(
    class_maps={
        2: ((len(SHAPES) + 1, 0.25), (len(COLORS) + 1, 0.25)),
        3: ((NUM_PAIRS + 1, 0.08),),
    },
    num_features=NUM_TOKEN_FEATURES,
)


@pytest.fixture(scope="session")
def batches() -> SceneBatches:
    tokenizer = train_byte_level_bpe(
        ["Is there a red star? yes no a blue circle left of the square"] * 9,
        vocabulary_size=300,
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    )
    collator = Collator(
        processor=ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=4)),
        tokenizer=tokenizer,
        template=TEMPLATES["chatml"],
        max_positions=256,
        row_positions=160,
    )
    return SceneBatches(
        collator=collator, num_steps=4, batch_size=4, canvases=((64, 64),), questions_per_picture=2, first_index=2
    )


@pytest.fixture
def model() -> FastVLM:
    torch.manual_seed(0)
    return FastVLM(VLMConfig(vision=VISION, decoder=DECODER))


@pytest.fixture
def heads() -> DenseHeads:
    torch.manual_seed(1)
    return DenseHeads(VISION, TARGETS)


@pytest.fixture
def symbols() -> nn.Linear:
    torch.manual_seed(2)
    return nn.Linear(NUM_TOKEN_FEATURES, DECODER.width)
