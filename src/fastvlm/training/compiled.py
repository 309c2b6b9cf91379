"""Steps on processors through `torch.compile`: many small operations become few."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

_MOST_FORMS = 64
"""Of one layer: with and without a cache, gradients, a mask of each kind."""


@contextmanager
def compiled_layers(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Run layers as code that torch compiles for them, for rows of any length.

    The first steps take about a minute. Where there is no C++ compiler, or a layer cannot be compiled, they run as they
    are. Numbers differ by rounding.
    """
    import torch._dynamo

    changed = list(layers)
    with torch._dynamo.config.patch(recompile_limit=_MOST_FORMS, suppress_errors=True):
        for layer in changed:
            layer.forward = torch.compile(layer.forward, dynamic=True)
        try:
            yield
        finally:
            for layer in changed:
                del layer.forward
