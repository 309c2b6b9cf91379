"""Which models there are: the embedded one, the known ones on the hub, and those in its local cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastvlm.checkpoints.config import CONFIG_FILE, MODEL_TYPE
from fastvlm.checkpoints.convert.apple_config import LLAMA, QWEN2
from fastvlm.checkpoints.convert.transformers_config import FAST_VLM
from fastvlm.checkpoints.hub import EMBEDDED, resolve
from fastvlm.checkpoints.licence import RESEARCH_LICENCE
from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.checkpoints.summary import summarize
from fastvlm.checkpoints.tensors import SINGLE_FILE
from fastvlm.errors import CheckpointError

Place = Literal["package", "hub", "cache"]


@dataclass(frozen=True)
class KnownModel:
    """A model that can be named to `fastvlm.load`.

    place: inside the package, on the hub (a download), or in the hub's cache on this machine. num_parameters: None
    where it is not known without reading the weights. num_bytes: on this disk, 0 for what is not on it.
    """

    name: str
    place: Place
    num_parameters: int | None = None
    num_bytes: int = 0
    licence: str | None = None


HUB_MODELS = (
    KnownModel("apple/FastVLM-0.5B", "hub", 620_304_096, licence=RESEARCH_LICENCE),
    KnownModel("apple/FastVLM-1.5B", "hub", 1_673_509_472, licence=RESEARCH_LICENCE),
    KnownModel("apple/FastVLM-7B", "hub", 7_762_192_992, licence=RESEARCH_LICENCE),
)
"""The authors' releases; parameters are those of the presets, a tied head counted once (pitfall B13)."""


def list_models() -> list[KnownModel]:
    """List the embedded model, then the known ones; a hub id that is in the local cache is told as cached."""
    cached = {model.name: model for model in _cached_models()}
    known = [_merged(model, cached.pop(model.name, None)) for model in HUB_MODELS]
    return [*_embedded_model(), *known, *cached.values()]


def _embedded_model() -> Iterator[KnownModel]:
    try:
        summary = summarize(read_checkpoint(resolve(EMBEDDED), only_described=True))
        num_bytes = (summary.folder / SINGLE_FILE).stat().st_size
        yield KnownModel(
            EMBEDDED, "package", summary.num_parameters["total"], num_bytes, licence=summary.config.licence
        )
    except (CheckpointError, OSError):
        return


def _cached_models() -> Iterator[KnownModel]:
    from huggingface_hub import constants, scan_cache_dir

    if not Path(constants.HF_HUB_CACHE).is_dir():
        return
    for repository in scan_cache_dir().repos:
        snapshots = (revision.snapshot_path for revision in repository.revisions)
        if repository.repo_type == "model" and any(_is_ours(snapshot / CONFIG_FILE) for snapshot in snapshots):
            yield KnownModel(repository.repo_id, "cache", None, repository.size_on_disk)


def _is_ours(config_file: Path) -> bool:
    """Whether a configuration is of a kind that can be loaded; what cannot be read is not."""
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in (MODEL_TYPE, QWEN2, LLAMA, FAST_VLM)


def _merged(known: KnownModel, cached: KnownModel | None) -> KnownModel:
    if cached is None:
        return known
    return KnownModel(known.name, "cache", known.num_parameters, cached.num_bytes, known.licence)
