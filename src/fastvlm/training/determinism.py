"""What the last digits of a run depend on beside its recipe and seed, so that a resumed run keeps to it.

On one processor, torch gives the same numbers in every process, to the last bit, for the same number of threads.
Another number of threads sums in another order, as do other instructions and other releases of torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from fastvlm.models.vision import kernels

_LOGGER = logging.getLogger(__name__)


def arithmetic() -> dict[str, str]:
    """Describe how this process computes: threads, the processor's instructions, torch's release, kernels."""
    return {
        "num_threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "kernels": "compiled" if kernels.are_loaded() else "torch's",
    }


def restore_arithmetic(stored: Mapping[str, str]) -> None:
    """Compute as in `stored`: with as many threads, in the whole process; what cannot be restored is warned of."""
    now = arithmetic()
    if stored.get("num_threads", now["num_threads"]) != now["num_threads"]:
        torch.set_num_threads(int(stored["num_threads"]))
    for name in ("instructions", "torch", "kernels"):
        if stored.get(name, now[name]) != now[name]:
            _LOGGER.warning(
                "This run was started with %s %s and goes on with %s: its losses differ in the last digits from those "
                "of a run that was not stopped.",
                name,
                stored[name],
                now[name],
            )
