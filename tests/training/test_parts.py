"""What learns, what is frozen, and what BatchNorm may learn from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fastvlm.errors import TrainingError
from fastvlm.training.parts import MIN_PICTURES, freeze, set_training_mode


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


@pytest.mark.parametrize("num_pictures", range(1, MIN_PICTURES))
def test_pitfall_b6_statistics_of_one_or_two_pictures_are_refused(num_pictures: int) -> None:
    module = network()
    set_training_mode(module)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(TrainingError, match=rf"at least 3 pictures.*got {num_pictures}.*freeze"):
        module(torch.randn(num_pictures, 3, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_pitfall_b6_enough_pictures_are_learned_from() -> None:
    module = network()
    set_training_mode(module)
    set_training_mode(module)
    module(torch.randn(MIN_PICTURES, 3, 8, 8))
    assert int(module[1].num_batches_tracked) == 1
    assert len(module[1]._forward_pre_hooks) == 1


def test_pitfall_b6_a_frozen_or_finished_part_takes_any_number_of_pictures() -> None:
    frozen, finished = network(), network()
    freeze(frozen)
    for module in (frozen, finished):
        set_training_mode(module)
    finished.eval()
    for module in (frozen, finished):
        before = copy.deepcopy(module.state_dict())
        module(torch.randn(1, 3, 8, 8))
        assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
