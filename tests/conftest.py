"""What all tests share: the folder of reference material beside the checkout."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

# Compiled graphs of the tests' models belong in nobody's cache.
os.environ["FASTVLM_CACHE"] = tempfile.mkdtemp(prefix="fastvlm-tests-")
atexit.register(shutil.rmtree, os.environ["FASTVLM_CACHE"], ignore_errors=True)

# transformers and timm import torchvision, whose compiled operators are not there and not needed.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))

SHARED = Path(os.environ.get("FASTVLM_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference tensors, pictures and texts; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference material at {SHARED}")
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that compare with the reference material, for `make golden`."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.golden)


@pytest.fixture
def same_threads_afterwards() -> Iterator[None]:
    """The number of threads belongs to the process: a test that sets it must not change what later tests compute."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
