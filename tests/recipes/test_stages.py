"""The stages of the recipe `scenes`: what learns in each, on which scenes, and what connects them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastvlm.data.sources import SceneBatches
from fastvlm.data.synthetic.questions import FAMILY_INTENTS
from fastvlm.recipes import scenes as recipe_module
from fastvlm.recipes.scenes import ScenesRecipe, run, scenes, smoke
from fastvlm.training.loop import LoopSettings
from fastvlm.training.optimizer import build_optimizer
from fastvlm.training.tasks.dense import DenseTask
from fastvlm.training.tasks.instruct import InstructTask, SymbolTask


@dataclass
class Stages:
    """What a run would have trained, stage by stage, and the projector's first layer by then."""

    tasks: list[Any] = field(default_factory=list)
    batches: list[SceneBatches] = field(default_factory=list)
    settings: list[LoopSettings] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    num_optimizers: list[int] = field(default_factory=list)
    first_layers: list[torch.Tensor] = field(default_factory=list)


def follow(recipe: ScenesRecipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Run a recipe with its training left out."""
    seen = Stages()

    def train(
        task: Any, batches: SceneBatches, settings: LoopSettings, folder: Path, *, identity: str, **_others: object
    ) -> None:
        seen.tasks.append(task)
        seen.batches.append(batches)
        seen.settings.append(settings)
        seen.folders.append(folder.name)
        seen.identities.append(identity)
        seen.num_optimizers.append(len(build_optimizer(task.module, settings.optimizer).optimizers))
        seen.first_layers.append(seen.tasks[0].model.projector.linear_1.weight.detach().clone())

    monkeypatch.setattr(recipe_module, "train", train)
    assert run(replace(recipe, tokenizer_texts=200), folder) == folder / "model"
    return seen


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stages:
    return follow(smoke(), tmp_path, monkeypatch)


@pytest.mark.parametrize("build", [scenes, smoke])
def test_the_order_is_reason_see_answer(build: Any) -> None:
    assert [(stage.name, stage.task) for stage in build().stages] == [
        ("reason", "symbols"),
        ("see", "dense"),
        ("answer", "instruct"),
    ]


def test_what_is_asked_more_often_is_something_that_is_asked() -> None:
    recipe = scenes()
    assert recipe.emphasis and set(recipe.emphasis) <= {name for names in FAMILY_INTENTS.values() for name in names}


def test_each_stage_trains_the_same_model(stages: Stages) -> None:
    reason, see, answer = stages.tasks
    assert (type(reason), type(see), type(answer)) == (SymbolTask, DenseTask, InstructTask)
    assert reason.grounding is answer.grounding is not None
    assert see.encoder is reason.model.vision and answer.model is reason.model and answer.heads is None
    assert answer.resting is not None and answer.resting.config.form == "fused"
    assert stages.folders == ["1-reason", "2-see", "3-answer"]


def test_stages_see_different_scenes_and_only_the_first_none_drawn(stages: Stages) -> None:
    assert [batches.is_drawn for batches in stages.batches] == [False, True, True]
    ranges = [
        range(batches.first_index, batches.first_index + batches.num_steps * batches.batch_size)
        for batches in stages.batches
    ]
    indices = [index for numbers in ranges for index in numbers]
    num_scenes = sum(len(batches) * batches.batch_size for batches in stages.batches)
    assert len(set(indices)) == len(indices) == num_scenes


def test_the_projector_is_connected_before_the_last_stage_and_not_earlier(stages: Stages) -> None:
    reason, see, answer = stages.first_layers
    assert torch.equal(reason, see)
    connected = stages.tasks[0].symbols.weight @ stages.tasks[1].heads.token_features.weight
    assert torch.equal(answer, connected) and not torch.allclose(answer, see)


def test_muon_moves_the_decoder_and_the_encoder_where_they_learn(stages: Stages) -> None:
    assert stages.num_optimizers == [2, 2, 2]


def test_the_encoder_stays_as_it_is_while_answers_are_learned(stages: Stages) -> None:
    encoder, decoder = stages.tasks[-1].model.vision, stages.tasks[-1].model.decoder
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert all(parameter.requires_grad for parameter in decoder.parameters())


def test_the_batches_of_each_stage_have_a_finite_loss(stages: Stages) -> None:
    """Labels fit the heads, symbols fit the numbers, and every canvas of a stage is one that its processor keeps."""
    labelled = []
    for task, batches in zip(stages.tasks, stages.batches, strict=True):
        batch = batches[1]
        labelled.append(batch.dense is not None)
        if batch.dense is not None:
            assert batch.dense.token_features.shape[-1] == smoke().dense_targets.num_features
        assert torch.isfinite(task.loss(batch).total)
    assert labelled == [True, True, False]


def test_a_stage_asks_what_it_can_learn_from(stages: Stages) -> None:
    reason, see, answer = (batches[0] for batches in stages.batches)
    assert reason.supervised.any() and answer.supervised.any() and not see.supervised.any()
    assert not len(reason.pixels) and see.pixels.std() and answer.pixels.std()
    assert see.pixels.dtype == answer.pixels.dtype == np.uint8


@pytest.mark.parametrize(("changed", "expected"), [(0, [False, False, False]), (2, [True, True, False])])
def test_a_stage_goes_on_where_only_later_ones_have_changed(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: int, expected: list[bool]
) -> None:
    recipe = smoke()
    longer = list(recipe.stages)
    longer[changed] = replace(longer[changed], num_steps=longer[changed].num_steps + 1)
    other = follow(replace(recipe, stages=tuple(longer)), tmp_path / "other", monkeypatch)
    assert [one == two for one, two in zip(stages.identities, other.identities, strict=True)] == expected


def test_how_often_a_run_is_saved_does_not_change_what_it_is(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = follow(replace(smoke(), save_every=7, num_workers=2), tmp_path / "other", monkeypatch)
    assert other.identities == stages.identities
