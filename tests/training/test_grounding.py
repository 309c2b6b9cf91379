"""Losses of grounding: they are the divergence of the model's own attention, and they teach words where to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from fastvlm.batches import TrainingBatch
from fastvlm.data.grounding import NUM_CLASSES, NUM_COMPARISONS, NUM_KINDS, NUM_MARKS
from fastvlm.data.sources import BLIND_EVERY, SceneBatches
from fastvlm.errors import TrainingError
from fastvlm.models.language.decoder import Attention, Decoder, rotary_angles
from fastvlm.models.vlm import FastVLM, segment_mask
from fastvlm.training.losses import attention_loss, known_class_loss, known_mark_loss
from fastvlm.training.tasks.grounding import POINTING_WEIGHTS, GroundingHeads, GroundingTargets, watch
from fastvlm.training.tasks.instruct import Grounding, InstructTask

TARGETS = GroundingTargets(
    num_classes=NUM_CLASSES, num_marks=NUM_MARKS, num_kinds=NUM_KINDS, num_comparisons=NUM_COMPARISONS
)


@pytest.fixture
def grounding(model: FastVLM) -> Grounding:
    torch.manual_seed(3)
    return Grounding(GroundingHeads(model.decoder, TARGETS), weight=0.5)


def losses(model: FastVLM, grounding: Grounding, batch: TrainingBatch) -> tuple[float, Mapping[str, torch.Tensor]]:
    loss = InstructTask(model, grounding=grounding).loss(batch)
    return float(loss.total.detach()), loss.parts


def test_its_losses_are_added_with_their_weights(model: FastVLM, grounding: Grounding, batches: SceneBatches) -> None:
    model.eval()
    plain = float(InstructTask(model).loss(batches[0]).total.detach())
    total, parts = losses(model, grounding, batches[0])
    added = sum(weight * float(parts[name]) for name, weight in POINTING_WEIGHTS.items())
    assert all(float(parts[name]) > 0 for name in POINTING_WEIGHTS)
    assert total == pytest.approx(plain + 0.5 * added, rel=1e-5)


def test_a_decoder_of_too_few_layers_is_refused(model: FastVLM) -> None:
    shallow = Decoder(replace(model.decoder.config, num_layers=4))
    with pytest.raises(TrainingError, match=r"at least 5 layers.*got 4"):
        GroundingHeads(shallow, TARGETS)


def test_without_labels_nothing_is_added(model: FastVLM, grounding: Grounding, batches: SceneBatches) -> None:
    model.eval()
    batch = replace(batches[0], grounding=None)
    assert losses(model, grounding, batch)[0] == float(InstructTask(model).loss(batch).total.detach())


def test_scores_are_what_attention_takes_its_softmax_of(model: FastVLM, batches: SceneBatches) -> None:
    """Mixing values by the softmax of each head's scores gives the layer's own output."""
    layer, config = model.decoder.layers[1], model.decoder.config
    attention = layer.attention
    assert isinstance(attention, Attention)
    hidden = torch.randn(2, 7, config.width, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(7).expand(2, 7)
    angles = rotary_angles(positions, head_dim=config.head_dim, theta=config.rope_theta)
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool).tril()
    rows, columns = torch.tensor([0, 1, 1]), torch.tensor([6, 0, 3])
    values = attention.value(hidden).view(2, 7, config.num_key_value_heads, config.head_dim)
    mixed = []
    every = attention.scores(hidden, angles=angles, heads=range(config.num_heads), rows=rows, positions=columns)
    for head in range(config.num_heads):
        alone = range(head, head + 1)
        scores = attention.scores(hidden, angles=angles, heads=alone, rows=rows, positions=columns)[:, 0]
        torch.testing.assert_close(every[:, head], scores, atol=1e-6, rtol=0)
        shares = scores.masked_fill(~mask[rows, 0, columns], -torch.inf).softmax(-1)
        group = head * config.num_key_value_heads // config.num_heads
        mixed.append(torch.einsum("kt,ktd->kd", shares, values[rows, :, group]))
    expected = attention(hidden, angles=angles, mask=mask, cache=None)[rows, columns]
    torch.testing.assert_close(attention.output(torch.cat(mixed, 1)), expected, atol=1e-5, rtol=0)


def test_attention_that_is_as_wanted_costs_only_its_share_on_words(
    model: FastVLM, grounding: Grounding, batches: SceneBatches
) -> None:
    """Shares taken from the model's own attention are wanted back: what is lost is what lies on other words."""
    model.eval()
    batch = batches[0]
    labels = batch.grounding
    assert labels is not None
    with torch.no_grad(), watch(model.decoder) as inputs:
        InstructTask(model).loss(batch)
    config = model.decoder.config
    angles = rotary_angles(torch.from_numpy(batch.positions), head_dim=config.head_dim, theta=config.rope_theta)
    rows, ends = torch.from_numpy(labels.phrases).unbind(1)
    scores = model.decoder.layers[1].attention.scores(
        inputs[1].normalised, angles=angles, heads=range(1), rows=rows, positions=ends
    )[:, 0]
    allowed = segment_mask(torch.from_numpy(batch.segments))[:, 0][rows, ends]
    seen = torch.from_numpy(batch.is_visual)[rows].clone()
    seen[:, 0] = True
    shares = scores.masked_fill(~(allowed & seen), -torch.inf).softmax(-1)
    wanted = torch.stack([row[places] for row, places in zip(shares, seen, strict=True)]).detach().numpy()
    exact = replace(batch, grounding=replace(labels, candidates=wanted))
    heads_alone = scores.detach().masked_fill(~allowed, -torch.inf).log_softmax(-1)
    on_text = -torch.logsumexp(heads_alone.masked_fill(~seen, -torch.inf), -1).mean()
    got = losses(model, grounding, exact)[1]["point_candidates"]
    assert float(got) == pytest.approx(float(on_text), rel=1e-3)
    assert float(losses(model, grounding, batch)[1]["point_candidates"]) > float(got) + 0.1


def test_a_decoder_learns_where_to_look(model: FastVLM, grounding: Grounding, batches: SceneBatches) -> None:
    task = InstructTask(model, grounding=grounding)
    optimizer = torch.optim.AdamW(task.module.parameters(), lr=3e-3)
    first = losses(model, grounding, batches[0])[1]
    for _ in range(80):
        optimizer.zero_grad()
        task.loss(batches[0]).total.backward()
        optimizer.step()
    last = losses(model, grounding, batches[0])[1]
    for name in POINTING_WEIGHTS:
        assert float(last[name]) < 0.5 * float(first[name]), name


def test_watching_ends_with_its_block(model: FastVLM, batches: SceneBatches) -> None:
    with watch(model.decoder) as inputs:
        InstructTask(model).loss(batches[0])
    assert sorted(inputs) == list(range(5))
    assert all(not layer.attention_norm._forward_hooks for layer in model.decoder.layers)


def test_heads_that_teach_are_saved_and_learn(model: FastVLM, grounding: Grounding, batches: SceneBatches) -> None:
    task = InstructTask(model, grounding=grounding)
    task.loss(batches[0]).total.backward()
    assert set(grounding.heads.parameters()) <= set(task.module.parameters())
    assert all(parameter.grad is not None for parameter in grounding.heads.parameters())


def test_attention_loss_is_the_divergence_and_ignores_what_is_masked() -> None:
    log_shares = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.1, 0.9, 0.0, 0.0]], dtype=torch.float64).log()
    wanted = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0]], dtype=torch.float64)
    assert float(attention_loss(log_shares, wanted)) == pytest.approx(0.5 * torch.log(torch.tensor(2.0)) / 2)
    assert float(attention_loss(log_shares, torch.zeros_like(wanted))) == 0


def test_unknown_classes_and_marks_do_not_count() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([2, -1, 0])
    expected = -logits.log_softmax(1)[[0, 2], [2, 0]].mean()
    assert float(known_class_loss(logits, classes)) == pytest.approx(float(expected), rel=1e-6)
    assert float(known_class_loss(logits, torch.full((3,), -1))) == 0
    # Of two and one of a class, each class counts the same, as far as evenness goes.
    several, losses = torch.tensor([2, 2, 0]), -logits.log_softmax(1)[[0, 1, 2], [2, 2, 0]]
    for evenness, weights in ((1.0, (0.5, 0.5, 1.0)), (0.5, (0.5**0.5, 0.5**0.5, 1.0))):
        weighted = (losses * torch.tensor(weights, dtype=torch.float64)).sum() / sum(weights)
        got = float(known_class_loss(logits, several, evenness=evenness))
        assert got == pytest.approx(float(weighted), rel=1e-6)
    marks = torch.tensor([[1.0, 0, 0, 1], [-1, -1, -1, -1], [0, 0, 1, 1]])
    kept, known = logits[[0, 2]], marks[[0, 2]].double()
    plain = -(known * kept.sigmoid().log() + (1 - known) * (1 - kept.sigmoid()).log()).mean()
    assert float(known_mark_loss(logits, marks)) == pytest.approx(float(plain), rel=1e-6)
    assert float(known_mark_loss(logits, torch.full((3, 4), -1.0))) == 0


def test_a_batch_in_which_no_scene_is_shown_has_a_finite_loss(
    model: FastVLM, grounding: Grounding, batches: SceneBatches
) -> None:
    batch = replace(batches, first_index=BLIND_EVERY, batch_size=1, num_steps=1)[0]
    assert batch.grounding is not None and len(batch.grounding.phrases) == 0
    loss = InstructTask(model, grounding=grounding).loss(batch)
    loss.total.backward()
    assert torch.isfinite(loss.total) and all(float(loss.parts[name]) == 0 for name in POINTING_WEIGHTS)
