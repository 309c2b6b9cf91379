"""Tasks: what is frozen stays bit-identical, a small model learns a handful of samples by heart, dense heads learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastvlm.batches import DenseLabels, TrainingBatch
from fastvlm.data.examples import Example
from fastvlm.data.sources import SceneBatches
from fastvlm.data.synthetic import COLORS, NUM_PAIRS, NUM_TOKEN_FEATURES, SHAPES
from fastvlm.errors import DataError, TrainingError
from fastvlm.messages import assistant, user
from fastvlm.models.vision.fastvithd import fuse
from fastvlm.models.vlm import FastVLM
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.losses import feature_loss, weighted_class_loss
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer
from fastvlm.training.parts import freeze, set_training_mode
from fastvlm.training.task import Task
from fastvlm.training.tasks.dense import DenseHeads, DenseTask
from fastvlm.training.tasks.instruct import InstructTask, SymbolTask, connect


def learn(task: Task[TrainingBatch], batch: TrainingBatch, *, num_steps: int) -> tuple[dict[str, float], ...]:
    """Train on one batch again and again; gives the losses before the first step and before the last."""
    optimizer = build_optimizer(task.module, OptimizerSettings(learning_rate=3e-3, warmup_steps=1))
    losses = []
    for _ in range(num_steps):
        loss = task.loss(batch)
        losses.append({"total": float(loss.total.detach()), **{name: float(part) for name, part in loss.parts.items()}})
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    return losses[0], losses[-1]


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


def test_an_encoder_at_rest_computes_in_its_fused_form(model: FastVLM, batches: SceneBatches) -> None:
    freeze(model.vision)
    model.vision.eval()
    resting = fuse(model.vision)
    whole, faster = InstructTask(model), InstructTask(model, resting=resting)
    assert set(faster.module.state_dict()) == set(whole.module.state_dict())
    expected, got = (float(task.loss(batches[0]).total.detach()) for task in (whole, faster))
    with torch.no_grad():
        next(resting.parameters()).zero_()
    blind = float(faster.loss(batches[0]).total.detach())
    assert 10 * abs(got - expected) < abs(blind - expected)
    model.vision.requires_grad_(True)
    with pytest.raises(TrainingError, match="does not learn beside its fused form"):
        InstructTask(model, resting=resting)


def test_heads_beside_the_words_want_labels(model: FastVLM, heads: DenseHeads, batches: SceneBatches) -> None:
    task = InstructTask(model, heads=heads, dense_weight=1.0)
    unlabelled = replace(batches, is_labelled=False)[0]
    with pytest.raises(DataError, match="Expected dense labels with every picture, scenes/train/"):
        task.loss(unlabelled)


def test_pitfall_b6_frozen_encoder_is_bit_identical_after_training(
    model: FastVLM, batches: SceneBatches, tmp_path: Path
) -> None:
    freeze(model.vision)
    before = copy_of(model.vision)
    words = model.decoder.embed_tokens.weight.detach().clone()
    optimizer = OptimizerSettings(learning_rate=1e-2, warmup_steps=1)
    train(InstructTask(model), batches, LoopSettings(optimizer=optimizer, num_workers=0), tmp_path)
    assert not changed(model.vision, before)
    assert not torch.equal(words, model.decoder.embed_tokens.weight)


def test_pitfall_b6_text_alone_leaves_the_encoder_out(model: FastVLM, batches: SceneBatches) -> None:
    text = batches.collator([_text_alone()])
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    InstructTask(model).loss(text).total.backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert model.decoder.embed_tokens.weight.grad is not None
    assert all(parameter.grad is None for parameter in model.vision.parameters())


def _text_alone() -> Example:
    return Example("text", (), ((user("Is there a star?"), assistant("no")),))


def test_training_mode_reaches_what_learns_only(model: FastVLM) -> None:
    freeze(model.vision.stem)
    model.eval()
    set_training_mode(model)
    assert not any(part.training for part in model.vision.stem.modules())
    assert model.vision.stages[0].training and model.decoder.training and model.training


def test_a_small_model_learns_a_batch_by_heart(model: FastVLM, batches: SceneBatches) -> None:
    _, last = learn(InstructTask(model), batches[0], num_steps=80)
    assert last["token_accuracy"] > 0.95


def test_each_token_or_each_answer_counts_the_same(model: FastVLM, batches: SceneBatches) -> None:
    """The exponent reaches the loss: its values differ, and the middle one lies between its ends."""
    model.eval()
    losses = {
        exponent: float(InstructTask(model, answer_exponent=exponent).loss(batches[0]).total.detach())
        for exponent in (0.0, 0.5, 1.0)
    }
    assert min(losses[0.0], losses[1.0]) < losses[0.5] < max(losses[0.0], losses[1.0])
    assert float(InstructTask(model).loss(batches[0]).total.detach()) == losses[0.0]


def test_dense_losses_are_added_with_their_weight(model: FastVLM, heads: DenseHeads, batches: SceneBatches) -> None:
    model.eval()
    plain = InstructTask(model).loss(batches[0])
    both = InstructTask(model, heads=heads, dense_weight=0.5).loss(batches[0])
    dense = DenseTask(model.vision, heads).loss(batches[0])
    assert float(both.total.detach()) == pytest.approx(float((plain.total + 0.5 * dense.total).detach()), rel=1e-5)
    assert set(both.parts) == {"words", "token_accuracy", "dense_class", "dense_token"}


def test_dense_loss_is_the_sum_over_the_maps_of_their_stages_and_the_tokens(
    model: FastVLM, heads: DenseHeads, batches: SceneBatches
) -> None:
    model.eval()
    batch = batches[0]
    labels = batch.dense
    assert labels is not None
    maps = model.vision.forward_stages(torch.from_numpy(batch.pixels))
    weights = {2: (0.25, 0.25), 3: (0.08,)}
    layers = iter(heads.class_maps)
    class_losses = [
        weighted_class_loss(
            next(layers)(maps[stage]), torch.from_numpy(labels.class_maps[stage][:, index]), background_weight=weight
        )
        for stage, stage_weights in weights.items()
        for index, weight in enumerate(stage_weights)
    ]
    expected = float(torch.stack(class_losses).sum().detach())
    loss = DenseTask(model.vision, heads).loss(batch)
    assert float(loss.parts["dense_class"]) == pytest.approx(expected, rel=1e-5)
    tokens = heads.token_features(maps[-1].flatten(2).transpose(1, 2))
    token_loss = feature_loss(tokens, torch.from_numpy(labels.token_features), torch.from_numpy(labels.token_weights))
    assert float(loss.parts["dense_token"]) == pytest.approx(float(token_loss.detach()), rel=1e-5)
    assert float(loss.total.detach()) == pytest.approx(expected + float(token_loss.detach()), rel=1e-5)


def test_an_encoder_learns_the_dense_labels_of_a_batch(
    model: FastVLM, heads: DenseHeads, batches: SceneBatches
) -> None:
    decoder = copy_of(model.decoder)
    first, last = learn(DenseTask(model.vision, heads), batches[0], num_steps=60)
    assert last["dense_class"] < 0.7 * first["dense_class"] and last["dense_token"] < 0.7 * first["dense_token"]
    assert not changed(model.decoder, decoder)


def test_dense_labels_fit_the_classes_of_the_heads(heads: DenseHeads, batches: SceneBatches) -> None:
    labels = batches[1].dense
    assert labels is not None
    num_classes = [layer.out_channels for layer in heads.class_maps]
    assert num_classes == [len(SHAPES) + 1, len(COLORS) + 1, NUM_PAIRS + 1]
    classes = [*np.moveaxis(labels.class_maps[2], 1, 0), *np.moveaxis(labels.class_maps[3], 1, 0)]
    for number, classes_of_map in zip(num_classes, classes, strict=True):
        assert classes_of_map.min() == 0 and 0 < classes_of_map.max() < number
    assert heads.token_features.out_features == NUM_TOKEN_FEATURES


def test_dense_task_refuses_pictures_without_labels(model: FastVLM, heads: DenseHeads, batches: SceneBatches) -> None:
    unlabelled: TrainingBatch = replace(batches[0], dense=None)
    with pytest.raises(DataError, match="scenes/train/2"):
        DenseTask(model.vision, heads).loss(unlabelled)


def test_the_decoder_learns_from_numbers_and_the_encoder_is_left_alone(
    model: FastVLM, symbols: nn.Linear, batches: SceneBatches
) -> None:
    vision, first_layer = copy_of(model.vision), copy_of(model.projector.linear_1)
    first, last = learn(SymbolTask(model, symbols), replace(batches, is_drawn=False)[0], num_steps=80)
    assert last["total"] < 0.2 * first["total"] and last["token_accuracy"] > 0.95
    assert not changed(model.vision, vision) and not changed(model.projector.linear_1, first_layer)


def test_what_the_symbols_say_matters_and_the_pixels_do_not(
    model: FastVLM, symbols: nn.Linear, batches: SceneBatches
) -> None:
    task, batch = SymbolTask(model, symbols), batches[0]
    loss = float(task.loss(batch).total.detach())
    assert float(task.loss(replace(batch, pixels=np.zeros_like(batch.pixels))).total.detach()) == loss
    assert batch.dense is not None
    other: DenseLabels = replace(batch.dense, token_features=batch.dense.token_features[::-1].copy())
    assert float(task.loss(replace(batch, dense=other)).total.detach()) != loss


def test_symbols_of_text_alone_are_not_needed(model: FastVLM, symbols: nn.Linear, batches: SceneBatches) -> None:
    SymbolTask(model, symbols).loss(batches.collator([_text_alone()])).total.backward()
    assert model.decoder.embed_tokens.weight.grad is not None and symbols.weight.grad is None


def test_all_that_symbols_teach_is_saved(model: FastVLM, symbols: nn.Linear, batches: SceneBatches) -> None:
    task = SymbolTask(model, symbols)
    task.loss(batches[0]).total.backward()
    moved = {parameter for parameter in [*model.parameters(), *symbols.parameters()] if parameter.grad is not None}
    assert moved == set(task.module.parameters())


def test_connecting_lets_the_projector_see_what_the_symbols_said(
    model: FastVLM, heads: DenseHeads, symbols: nn.Linear, batches: SceneBatches
) -> None:
    """The projector on the encoder's map equals the symbols' path on what the encoder's head predicts of it."""
    model.eval()
    with torch.no_grad():
        heads.token_features.weight.normal_(std=0.3)
        heads.token_features.bias.normal_()
        encoded = model.vision.forward_stages(torch.from_numpy(batches[0].pixels))[-1].flatten(2).transpose(1, 2)
        predicted = heads.token_features(encoded)
        expected = model.projector.linear_2(torch.nn.functional.gelu(symbols(predicted)))
        second = copy_of(model.projector.linear_2)
        assert not torch.allclose(model.projector(encoded), expected, atol=1e-2)
        connect(model, heads, symbols)
        torch.testing.assert_close(model.projector(encoded), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.projector.linear_1(encoded), symbols(predicted), atol=1e-5, rtol=0)
    assert not changed(model.projector.linear_2, second)
    assert expected.std() > 1e-2 and model.projector.linear_1.weight.requires_grad


def test_pictures_given_as_levels_teach_the_same(model: FastVLM, heads: DenseHeads, batches: SceneBatches) -> None:
    batch = batches[0]
    in_levels = replace(batches, collator=replace(batches.collator, keeps_levels=True))[0]
    assert in_levels.pixels.dtype == np.uint8
    for task in (InstructTask(model.eval()), DenseTask(model.vision, heads)):
        losses = [task.loss(one).total.detach() for one in (in_levels, batch)]
        assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-6)
