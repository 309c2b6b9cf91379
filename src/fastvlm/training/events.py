"""Event files that TensorBoard draws: what is reported of a run, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fastvlm.errors import require_extra

EVENTS_FOLDER = "tensorboard"

WriteEvents = Callable[[int, Mapping[str, float]], None]
"""Told the number of finished steps and numbers by name."""


def require_events() -> None:
    """Raise MissingExtraError where TensorBoard is not installed."""
    require_extra("tensorboard", "tensorboard")


@contextmanager
def event_files(folder: Path, *, num_steps: int, is_wanted: bool) -> Iterator[WriteEvents]:
    """Give what writes numbers into event files below `folder`, where they are wanted, and otherwise does nothing.

    num_steps: those already done, behind which what an earlier process wrote is no longer shown. Raises
    MissingExtraError where TensorBoard is not installed.
    """
    if not is_wanted:
        yield lambda _step, _numbers: None
        return
    require_events()
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / EVENTS_FOLDER), purge_step=num_steps + 1) as writer:

        def write(step: int, numbers: Mapping[str, float]) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        yield write
