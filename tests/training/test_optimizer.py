"""Two optimizers as one: Muon for the matrices that are named, AdamW for the rest, saved and restored exactly."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fastvlm.data.sources import SceneBatches
from fastvlm.models.vlm import FastVLM
from fastvlm.training.muon import Muon
from fastvlm.training.optimizer import JointOptimizer, OptimizerSettings, build_optimizer, set_rate
from fastvlm.training.parts import freeze
from fastvlm.training.resume import Progress, load_state, save_state
from fastvlm.training.tasks.instruct import InstructTask

SETTINGS = OptimizerSettings(learning_rate=1e-2, warmup_steps=1, muon_parts=("decoder.layers", "stages"))


class Small(nn.Module):
    """Matrices inside and outside of the named part, and what is no matrix; `layers` of another name is not meant."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.ModuleDict({"layers": nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 4))})
        self.other = nn.ModuleDict({"layers": nn.Sequential(nn.Linear(4, 4))})
        self.kernel = nn.Conv2d(1, 4, 3)
        self.stages = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        image = self.kernel(x[:, None, :, None].expand(-1, -1, -1, 4))
        pooled = image.mean((2, 3)) + self.stages(nn.functional.pad(image, (1, 1, 1, 1))).mean((2, 3))
        return self.other["layers"](self.decoder["layers"](x)) + pooled


def small() -> Small:
    torch.manual_seed(7)
    return Small()


def step(module: nn.Module, optimizer: JointOptimizer, number: int) -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    (module(x) - x.flip(1)).square().mean().backward()
    optimizer.step()


def equal(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_muon_moves_the_matrices_of_the_named_parts_and_nothing_else() -> None:
    module = small()
    muon, adamw = build_optimizer(module, SETTINGS).optimizers
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    # A depthwise kernel has one input for each output: there is nothing to make orthogonal.
    named = {"decoder.layers.0.weight", "decoder.layers.2.weight", "stages.1.weight"}

    def moved() -> set[str]:
        return {name for name, parameter in module.named_parameters() if not torch.equal(before[name], parameter)}

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    module(x).square().mean().backward()
    muon.step()
    assert moved() == named
    adamw.step()
    assert moved() == before.keys()


def test_every_parameter_that_learns_is_in_one_optimizer_once(model: FastVLM) -> None:
    freeze(model.vision.stem)
    module = InstructTask(model).module
    optimizer = build_optimizer(module, SETTINGS)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(parameters) == len(set(parameters))
    assert set(parameters) == {parameter for parameter in module.parameters() if parameter.requires_grad}
    muon, adamw = optimizer.optimizers
    parts = [*model.decoder.layers.parameters(), *model.vision.stages.parameters()]
    matrices = {parameter for parameter in parts if parameter.ndim >= 2 and parameter.shape[1] > 1}
    assert {parameter for group in muon.param_groups for parameter in group["params"]} == matrices
    assert isinstance(muon, Muon) and isinstance(adamw, torch.optim.AdamW)
    assert all(group["weight_decay"] == SETTINGS.weight_decay for group in muon.param_groups)


def test_without_named_parts_there_is_one_optimizer() -> None:
    (only,) = build_optimizer(small(), OptimizerSettings(learning_rate=1e-2, warmup_steps=1)).optimizers
    assert isinstance(only, torch.optim.AdamW)


def test_the_rate_of_a_group_reaches_every_optimizer() -> None:
    module = small()
    optimizer = build_optimizer(module, SETTINGS)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    step(module, optimizer, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_zero_grad_reaches_every_optimizer() -> None:
    module = small()
    optimizer = build_optimizer(module, SETTINGS)
    module(torch.ones(2, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in module.parameters())


def test_restored_states_go_on_bit_for_bit() -> None:
    module = small()
    optimizer = build_optimizer(module, SETTINGS)
    for number in range(5):
        step(module, optimizer, number)
    states = copy.deepcopy(optimizer.states())
    again = Small()
    again.load_state_dict(module.state_dict())
    restored = build_optimizer(again, SETTINGS)
    assert not restored.states()
    restored.restore(states)
    forgetful = Small()
    forgetful.load_state_dict(module.state_dict())
    fresh = build_optimizer(forgetful, SETTINGS)
    for number in range(5, 10):
        for one, its_optimizer in ((module, optimizer), (again, restored), (forgetful, fresh)):
            step(one, its_optimizer, number)
    assert equal(again, module)
    assert not equal(forgetful, module)


def test_states_are_numbered_over_all_optimizers() -> None:
    module = small()
    optimizer = build_optimizer(module, SETTINGS)
    step(module, optimizer, 0)
    states = optimizer.states()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(states) == list(range(len(parameters)))
    assert [set(states[number]) for number in range(3)] == [{"momentum_buffer"}] * 3
    for number, parameter in enumerate(parameters):
        shapes = {value.shape for key, value in states[number].items() if key != "step"}
        assert shapes == {parameter.shape}


@pytest.mark.parametrize("num_before", [0, 3])
def test_a_saved_state_goes_on_bit_for_bit(
    tmp_path: Path, model: FastVLM, batches: SceneBatches, num_before: int
) -> None:
    """A whole model with its decoder moved by Muon: through the file and back, every weight comes out the same."""

    def learn(task: InstructTask, optimizer: JointOptimizer, steps: range) -> None:
        for number in steps:
            optimizer.zero_grad()
            task.loss(batches[number % len(batches)]).total.backward()
            optimizer.step()

    task = InstructTask(model)
    optimizer = build_optimizer(task.module, SETTINGS)
    learn(task, optimizer, range(num_before))
    save_state(tmp_path, task.module, optimizer, Progress(step=num_before, run={}))
    learn(task, optimizer, range(num_before, num_before + 3))
    again = InstructTask(FastVLM(model.config))
    restored = build_optimizer(again.module, SETTINGS)
    assert load_state(tmp_path, again.module, restored, run={}).step == num_before
    learn(again, restored, range(num_before, num_before + 3))
    assert equal(again.module, task.module)


class Stacked(nn.Module):
    """Two layers of a decoder and three stages of an encoder, with a projector between."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.embed_tokens = nn.Embedding(3, 2)
        self.decoder.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        self.vision = nn.Module()
        self.vision.stem = nn.Linear(2, 2)
        self.vision.stages = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.projector = nn.Linear(2, 2)


def test_parts_and_layers_have_rates_of_their_own() -> None:
    module = Stacked()
    settings = OptimizerSettings(
        learning_rate=1e-2, warmup_steps=0, part_rates=(("vision", 1e-3), ("projector", 1e-1)), layer_decay=0.5
    )
    optimizer = build_optimizer(module, settings)
    set_rate(optimizer, 5e-3)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert rates[module.decoder.layers[1].weight] == pytest.approx(5e-3)
    assert rates[module.decoder.layers[0].bias] == pytest.approx(2.5e-3)
    assert rates[module.vision.stages[2].weight] == pytest.approx(5e-4)
    assert rates[module.vision.stages[0].weight] == pytest.approx(1.25e-4)
    assert rates[module.vision.stem.weight] == pytest.approx(6.25e-5)
    assert rates[module.decoder.embed_tokens.weight] == pytest.approx(1.25e-3)
    assert rates[module.projector.weight] == pytest.approx(5e-2)
    decayed = {p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {parameter for parameter in module.parameters() if parameter.ndim == 2}


def test_what_muon_moves_has_rates_of_its_own_too() -> None:
    module = Stacked()
    settings = OptimizerSettings(
        learning_rate=1e-2, warmup_steps=0, part_rates=(("vision", 1e-3),), layer_decay=0.5,
        muon_parts=("decoder.layers", "vision.stages"),
    )  # fmt: skip
    optimizer = build_optimizer(module, settings)
    set_rate(optimizer, 5e-3)
    muon, _ = optimizer.optimizers
    rates = {parameter: group["lr"] for group in muon.param_groups for parameter in group["params"]}
    assert rates[module.decoder.layers[0].weight] == pytest.approx(2.5e-3)
    assert rates[module.vision.stages[2].weight] == pytest.approx(5e-4)
    assert len(rates) == 5
