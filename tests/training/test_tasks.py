"""Tasks: what is frozen stays bit-identical, a small model learns a handful of samples by heart, dense heads learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastvlm.batches import TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.examples import Example
from fastvlm.data.sources import SceneBatches
from fastvlm.data.synthetic.labels import NUM_TOKEN_FEATURES
from fastvlm.errors import DataError
from fastvlm.messages import assistant, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer
from fastvlm.training.parts import freeze, set_training_mode
from fastvlm.training.tasks.dense import DenseHeads, DenseTargets, DenseTask
from fastvlm.training.tasks.instruct import InstructTask

VISION = FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), layer_scale_init=0.1, form="train")
DECODER = DecoderConfig(
    vocabulary_size=320, width=64, num_layers=2, num_heads=2, num_key_value_heads=1, feed_forward_width=128,
    head_dim=32, max_positions=256,
)  # fmt: skip


@pytest.fixture(scope="module")
def batches() -> SceneBatches:
    tokenizer = train_byte_level_bpe(
        ["Is there a star? yes no"] * 9,
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
        collator=collator, num_steps=4, batch_size=4, canvases=((128, 128),), questions_per_picture=2, first_index=2
    )


@pytest.fixture
def model() -> FastVLM:
    torch.manual_seed(0)
    return FastVLM(VLMConfig(vision=VISION, decoder=DECODER))


def test_pitfall_b6_frozen_encoder_is_bit_identical_after_training(
    model: FastVLM, batches: SceneBatches, tmp_path: Path
) -> None:
    freeze(model.vision)
    before = {name: tensor.clone() for name, tensor in model.vision.state_dict().items()}
    words = model.decoder.embed_tokens.weight.detach().clone()
    optimizer = OptimizerSettings(learning_rate=1e-2, warmup_steps=1)
    train(InstructTask(model), batches, LoopSettings(optimizer=optimizer, num_workers=0), tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.vision.state_dict().items())
    assert not torch.equal(words, model.decoder.embed_tokens.weight)


def test_pitfall_b6_text_alone_leaves_the_encoder_out(model: FastVLM, batches: SceneBatches) -> None:
    question = (user("Is there a star?"), assistant("no"))
    text = batches.collator([Example("text", None, (question,))])
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    InstructTask(model).loss(text).total.backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert model.decoder.embed_tokens.weight.grad is not None
    assert all(parameter.grad is None for parameter in model.vision.parameters())


def test_training_mode_reaches_what_learns_only(model: FastVLM) -> None:
    freeze(model.vision.stem)
    model.eval()
    set_training_mode(model)
    assert not any(part.training for part in model.vision.stem.modules())
    assert model.vision.stages[0].training and model.decoder.training and model.training


def test_a_small_model_learns_a_batch_by_heart(model: FastVLM, batches: SceneBatches) -> None:
    task, batch = InstructTask(model), batches[0]
    optimizer = build_optimizer(task.module, OptimizerSettings(learning_rate=3e-3, warmup_steps=1))
    for _ in range(80):
        loss = task.loss(batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.parts["token_accuracy"]) > 0.95


def test_dense_losses_are_added_with_their_weight(model: FastVLM, batches: SceneBatches) -> None:
    heads = DenseHeads(VISION, DenseTargets(num_classes=(10, 12), num_features=NUM_TOKEN_FEATURES))
    model.eval()
    plain = InstructTask(model).loss(batches[0])
    both = InstructTask(model, heads=heads, dense_weight=0.5).loss(batches[0])
    dense = DenseTask(model.vision, heads).loss(batches[0])
    assert float(both.total.detach()) == pytest.approx(float((plain.total + 0.5 * dense.total).detach()), rel=1e-5)
    assert {"words", "dense_class", "dense_count"} <= set(both.parts)


def test_dense_task_refuses_pictures_without_labels(model: FastVLM, batches: SceneBatches) -> None:
    heads = DenseHeads(VISION, DenseTargets(num_classes=(10, 12), num_features=NUM_TOKEN_FEATURES))
    unlabelled: TrainingBatch = replace(batches[0], dense=None)
    with pytest.raises(DataError, match="scenes/train/2"):
        DenseTask(model.vision, heads).loss(unlabelled)
