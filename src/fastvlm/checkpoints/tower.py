"""A pretrained encoder on its own: its weights in the form for training, and what its pixels need."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fastvlm.checkpoints.config import section_from_dict, section_to_dict
from fastvlm.checkpoints.tensors import read_json
from fastvlm.checkpoints.write import write_tensors
from fastvlm.errors import CheckpointError, one_line
from fastvlm.files import new_folder
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD, fuse
from fastvlm.processing.config import ProcessingConfig

TOWER_FILE, TOWER_CONFIG = "tower.safetensors", "tower.json"


@torch.no_grad()
def save_tower(folder: Path, tower: FastViTHD, processing: ProcessingConfig) -> Path:
    """Write a tower in its form for training into a new folder, after its fused form was found to say the same.

    processing: the side, the mean and the deviation of its pixels. Raises CheckpointError where the two forms differ by
    more than a thousandth, and where the folder cannot be written.
    """
    tower.eval()
    side_px = processing.size_px
    pixels = torch.rand(2, 3, side_px, side_px, generator=torch.Generator().manual_seed(0))
    expected, got = tower(pixels), fuse(tower)(pixels)
    error = float((expected - got).abs().max() / expected.abs().max())
    if not error < 1e-3:
        raise CheckpointError(f"Expected the fused tower to agree with the trained one within 0.001, got {error:.2g}.")
    about = {"vision": section_to_dict(tower.config), "processing": section_to_dict(processing)}
    try:
        with new_folder(folder) as target:
            state = {name: value.contiguous() for name, value in tower.state_dict().items()}
            write_tensors(target / TOWER_FILE, state)
            (target / TOWER_CONFIG).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as failure:
        raise CheckpointError(f"Cannot write the tower to {folder}: {one_line(failure)}. Free some space.") from failure
    return folder


def is_tower(folder: Path) -> bool:
    """Whether a folder holds an encoder on its own."""
    return (folder / TOWER_CONFIG).is_file()


def load_tower(folder: Path) -> tuple[FastViTHD, ProcessingConfig]:
    """Read a tower without its CLIP head, to start a vision-language model with.

    Raises CheckpointError for a folder without one, and for one that is not whole.
    """
    about, where = read_json(folder / TOWER_CONFIG), str(folder / TOWER_CONFIG)
    config = section_from_dict(FastViTHDConfig, about.get("vision"), where=where)
    processing = section_from_dict(ProcessingConfig, about.get("processing"), where=where)
    tower = FastViTHD(replace(config, clip_dim=None))
    try:
        state = load_file(folder / TOWER_FILE)
        tower.load_state_dict({name: value for name, value in state.items() if not name.startswith("clip_head.")})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"Expected the weights of a tower in {folder}, got: {one_line(error, max_length=200)}. Pretrain it again."
        ) from error
    return tower.eval(), processing
