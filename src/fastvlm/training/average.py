"""A running mean of the weights, which answers better than the last step's where steps are noisy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_WARM_UP = 10
"""The mean follows the weights closely in the first steps: after n of them it remembers no more than about n / 10."""


class WeightAverage:
    """An exponential moving average of the parameters that learn; statistics of BatchNorm are taken as they are.

    decay: of the mean, near one.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self._module, self._decay = module, decay
        self._num_steps = 0
        self._means = {name: value.detach().clone() for name, value in self._learning()}

    @torch.no_grad()
    def update(self) -> None:
        """Take up the weights after a step."""
        self._num_steps += 1
        decay = min(self._decay, (1 + self._num_steps) / (_WARM_UP + self._num_steps))
        values: list[Tensor] = [value for _, value in self._learning()]
        torch._foreach_lerp_(list(self._means.values()), values, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the module hold the means inside, and its own weights again afterwards."""
        own = {name: value.detach().clone() for name, value in self._learning()}
        self.apply()
        try:
            yield
        finally:
            self._set(own)

    def apply(self) -> None:
        """Give the module the means for good."""
        self._set(self._means)

    def state(self) -> dict[str, Tensor]:
        """The means and the number of steps, to be saved."""
        return {"num_steps": torch.tensor(self._num_steps), **{f"mean.{k}": v for k, v in self._means.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self._num_steps = int(state["num_steps"])
        for name, mean in self._means.items():
            mean.copy_(state[f"mean.{name}"])

    def _learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in self._module.named_parameters() if value.requires_grad)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._learning():
            parameter.copy_(values[name])
