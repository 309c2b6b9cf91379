"""Steps on processors through `torch.compile`: many small operations become few."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from fastvlm import compiler

_MOST_FORMS = 64
"""Of one layer, before it runs as it is: with gradients and without, with a mask of each kind."""

_LOGGER = logging.getLogger(__name__)


@contextmanager
def compiled_layers(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Run layers as code that torch compiles for them, for rows of any length; the first steps take about a minute.

    Where there is no C++ compiler, where the compiled kernels are switched off, or where torch cannot compile, they run
    as they are, which one line of the log says. Numbers differ by rounding, and from one start of a run to the next,
    since what is compiled depends on the shapes that come first.
    """
    if not layers:
        yield
        return
    import torch._dynamo

    # A hook that comes or goes (see `tasks/grounding.watch`) has to be noticed, which is not torch's default.
    settings = torch._dynamo.config.patch(
        recompile_limit=_MOST_FORMS, suppress_errors=True, skip_nnmodule_hook_guards=False
    )
    try:
        reason = compiler.reason_against_compiling()
        forwards = [] if reason else [torch.compile(layer.forward, dynamic=True) for layer in layers]
    except RuntimeError as error:  # a Python that torch does not know
        reason, forwards = str(error), []
    if reason:
        _LOGGER.warning("The decoder is not compiled, and learns more slowly: %s", reason)
    try:
        for layer, forward in zip(layers, forwards, strict=False):
            layer.forward = forward
        with settings:
            yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
