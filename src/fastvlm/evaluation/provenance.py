"""Where numbers come from: the weights, the machine and the versions."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path

from fastvlm.checkpoints.adapter import base_folder, is_adapter
from fastvlm.checkpoints.hub import EMBEDDED, resolve
from fastvlm.evaluation.report import ModelIdentity, WeightFile

_PACKAGES = ("fastvlm", "numpy", "openvino", "pillow", "tokenizers", "torch")


def identify_model(model: str | Path | None) -> ModelIdentity:
    """Name a model and hash its files of weights, those of an adapter and then of its base.

    Raises CheckpointError where there is no such model.
    """
    folder = resolve(model)
    folders = [folder]
    while is_adapter(folders[-1]):
        folders.append(base_folder(folders[-1]))
    weights = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.safetensors"))):
        with path.open("rb") as file:
            weights.append(WeightFile(path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    return ModelIdentity(EMBEDDED if model is None else str(model), tuple(weights))


def describe_machine() -> str:
    """Name the operating system and the processor."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return f"{platform.system()} {platform.machine()}, {processor}, {os.cpu_count()} CPUs"


def installed_versions(*others: str) -> dict[str, str]:
    """Versions of Python, of the packages that the numbers depend on, and of others, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for package in (*_PACKAGES, *others):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
