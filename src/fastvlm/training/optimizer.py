"""How parameters move: AdamW with decay on matrices only, Muon for the matrices of parts where asked,
and a learning rate that depends on the step alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastvlm.training.muon import Muon


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW. learning_rate: the peak. warmup_steps: linear rise. clip_norm: largest gradient norm.

    muon_parts: modules by the dotted end of their name, such as `decoder.layers`, whose matrices and kernels Muon moves
    (`muon.py`): it learns the same from fewer steps. part_rates: peaks of modules with a rate of their own, by name.
    layer_decay: each layer of a decoder and each stage of an encoder learns so much slower than the one after it, and
    the table of words and the stem so much slower than the first.
    """

    learning_rate: float
    warmup_steps: int
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    final_fraction: float = 0.0
    muon_parts: tuple[str, ...] = ()
    part_rates: tuple[tuple[str, float], ...] = ()
    layer_decay: float = 1.0


_SCALE = "rate_scale"
_LAYER = re.compile(r"^(?P<stack>.*\.(?:layers|stages))\.(?P<number>\d+)\.")
_BEFORE = re.compile(r"^(?P<whole>.*)\.(?P<part>embed_tokens|stem)\.")
_STACK_AFTER = {"embed_tokens": "layers", "stem": "stages"}
"""What comes before the first layer of which stack."""


def learning_rate(settings: OptimizerSettings, *, step: int, num_steps: int) -> float:
    """The rate of one step: a linear rise, then a cosine that ends, after the last step, at final_fraction of it."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, num_steps - settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_fraction + (1 - settings.final_fraction) * cosine)


class JointOptimizer:
    """Several optimizers, each with parameters of its own, stepped, saved and restored as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers, in order."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move every parameter once."""
        for optimizer in self.optimizers:
            optimizer.step()

    def states(self) -> dict[int, dict[str, Tensor]]:
        """What the optimizers remember of each parameter, by its number; the numbers run on over the optimizers."""
        states: dict[int, dict[str, Tensor]] = {}
        for first, optimizer in zip(self._first_numbers(), self.optimizers, strict=True):
            states |= {first + number: state for number, state in optimizer.state_dict()["state"].items()}
        return states

    def restore(self, states: dict[int, dict[str, Tensor]]) -> None:
        """Take over what `states` gave."""
        firsts = self._first_numbers()
        for first, end, optimizer in zip(firsts, [*firsts[1:], math.inf], self.optimizers, strict=True):
            own = {number - first: state for number, state in states.items() if first <= number < end}
            optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})

    def _first_numbers(self) -> list[int]:
        sizes = [sum(len(group["params"]) for group in optimizer.param_groups) for optimizer in self.optimizers]
        return [sum(sizes[:index]) for index in range(len(sizes))]


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> JointOptimizer:
    """Optimize the parameters that require gradients, in a fixed order; vectors and scales do not decay."""
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    is_orthogonal = [_is_matrix(parameter) and _is_in(name, settings.muon_parts) for name, parameter in named]
    matrices = [parameter for (_, parameter), chosen in zip(named, is_orthogonal, strict=True) if chosen]
    parameters = [parameter for (_, parameter), chosen in zip(named, is_orthogonal, strict=True) if not chosen]
    scales = _rate_scales(module, settings)
    # Not torch's fused AdamW: on processors it takes a weight, its gradient and its moments by their places in memory,
    # and moves the wrong weights where one of them is laid out otherwise.
    adamw = torch.optim.AdamW(_groups(parameters, scales, settings), lr=settings.learning_rate, betas=settings.betas)
    if not matrices:
        return JointOptimizer(adamw)
    by_scale = [
        {"params": [one for one in matrices if scales[one] == scale], _SCALE: scale}
        for scale in _descending(scales[one] for one in matrices)
    ]
    muon = Muon(by_scale, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return JointOptimizer(muon, adamw)


def set_rate(optimizer: JointOptimizer, rate: float) -> None:
    """Give every group its share of the present learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_SCALE, 1.0)


def _groups(
    parameters: list[nn.Parameter], scales: dict[nn.Parameter, float], settings: OptimizerSettings
) -> list[dict[str, Any]]:
    """What decays and what does not, of each scale; without scales always two groups, the first of what decays."""
    found: list[dict[str, Any]] = []
    for scale in _descending(scales[parameter] for parameter in parameters) or [1.0]:
        own = [parameter for parameter in parameters if scales[parameter] == scale]
        for decays, decay in ((True, settings.weight_decay), (False, 0.0)):
            chosen = [parameter for parameter in own if _decays(parameter) == decays]
            found.append({"params": chosen, "weight_decay": decay, _SCALE: scale})
    return found


def _descending(scales: Iterable[float]) -> list[float]:
    return sorted(set(scales), reverse=True)


def _rate_scales(module: nn.Module, settings: OptimizerSettings) -> dict[nn.Parameter, float]:
    """How the rate of each parameter relates to that of the run."""
    scales: dict[nn.Parameter, float] = {}
    depths = _depths(module)
    for name, parameter in module.named_parameters():
        scale = 1.0
        for part, rate in settings.part_rates:
            if _is_in(name, (part,)):
                scale = rate / settings.learning_rate
        scales[parameter] = scale * settings.layer_decay ** depths.get(name, 0)
    return scales


def _depths(module: nn.Module) -> dict[str, int]:
    """How many layers of a decoder, or stages of an encoder, come after the one that a parameter belongs to."""
    places = {name: _LAYER.search(f".{name}") for name, _ in module.named_parameters()}
    last: dict[str, int] = {}
    for place in places.values():
        if place is not None:
            last[place["stack"]] = max(last.get(place["stack"], 0), int(place["number"]))
    depths = {name: last[place["stack"]] - int(place["number"]) for name, place in places.items() if place is not None}
    for name, _ in module.named_parameters():
        before = _BEFORE.search(f".{name}")
        if before is not None:
            depths[name] = last.get(f"{before['whole']}.{_STACK_AFTER[before['part']]}", -1) + 1
    return depths


def _is_in(name: str, parts: tuple[str, ...]) -> bool:
    return any(f".{part}." in f".{name}" for part in parts)


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether many inputs meet in each output: a matrix or a kernel, but not a depthwise one."""
    return parameter.ndim >= 2 and parameter.shape[1] > 1


def _decays(parameter: nn.Parameter) -> bool:
    """Matrices and kernels decay; biases, norms and per-channel scales (C or C x 1 x 1) do not."""
    return parameter.ndim >= 2 and parameter.numel() > parameter.shape[0]
