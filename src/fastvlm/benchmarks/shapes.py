"""Models by shape alone: checkpoints with random weights, so that anybody can measure speed without a download."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastvlm.checkpoints.config import CONFIG_FILE, ModelConfig, config_to_dict
from fastvlm.checkpoints.convert import transformers, transformers_config
from fastvlm.checkpoints.names import NameTable
from fastvlm.checkpoints.strict import Shape, fused_shapes
from fastvlm.checkpoints.tensors import SINGLE_FILE, StoredTensor, read_tensors
from fastvlm.errors import CheckpointError
from fastvlm.files import new_folder
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import PRESETS as DECODERS
from fastvlm.models.vision.config import PRESETS as ENCODERS
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES

IMAGE_TOKEN_ID = 5
"""Any id will do: what stands in a slot is never looked up."""

SHAPES: dict[str, VLMConfig] = {
    f"fastvlm-{size}": VLMConfig(vision=ENCODERS["fastvithd"], decoder=DECODERS[f"qwen2-{size}"])
    for size in ("0.5b", "1.5b", "7b")
} | {
    "fastvlm-vicuna-7b": VLMConfig(vision=ENCODERS["fastvithd"], decoder=DECODERS["vicuna-7b"]),
    "tiny": VLMConfig(
        vision=FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(32, 32, 64, 64, 128)),
        decoder=replace(
            DECODERS["qwen2-0.5b"], vocabulary_size=1024, width=128, num_layers=2, num_heads=4, num_key_value_heads=2,
            feed_forward_width=256, head_dim=32,
        ),
    ),
}  # fmt: skip
"""The models of the paper by name, and one for tests."""


def random_checkpoint(
    name: str, folder: Path, *, layout: Literal["fastvlm", "transformers"] = "transformers", seed: int = 0
) -> Path:
    """Write a checkpoint of a shape in bfloat16, as a rule in transformers' layout, which every engine here can read.

    The weights keep activations near one: those of a default initialisation shrink to denormal numbers on their way
    through so many blocks, which processors compute a hundred times slower. An existing folder is taken as it is.
    Raises CheckpointError for an unknown shape.
    """
    config = shape_config(name)
    if (folder / CONFIG_FILE).is_file():
        return folder
    model = ModelConfig(
        name=name, vlm=config, processing=ProcessingConfig(), template=TEMPLATES["qwen_2"], eos_token_ids=(0, 2)
    )
    with new_folder(folder) as target:
        if layout == "fastvlm":
            values = config_to_dict(model)
        else:
            values = transformers_config.write_config(model, image_token_id=IMAGE_TOKEN_ID) | {"dtype": "bfloat16"}
        (target / CONFIG_FILE).write_text(json.dumps(values, indent=2), encoding="utf-8")
        shapes = fused_shapes(config)
        named = {name: name if layout == "fastvlm" else _theirs(name) for name in shapes}
        _write_bfloat16(shapes, named, target / SINGLE_FILE, seed=seed)
    return folder


def shape_config(name: str) -> VLMConfig:
    """The configuration of a shape. Raises CheckpointError for an unknown one."""
    if name not in SHAPES:
        raise CheckpointError(f"Expected one of the shapes {', '.join(SHAPES)}, got {name!r}.")
    return SHAPES[name]


def tensors_of(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of such a checkpoint by our names."""
    return dict(_renamed(read_tensors(folder), transformers.TABLE))


def _renamed(stored: dict[str, StoredTensor], table: NameTable) -> Iterator[tuple[str, StoredTensor]]:
    for name, tensor in stored.items():
        ours = table.to_ours(name)
        if ours is not None:
            yield ours, tensor


def _theirs(name: str) -> str:
    found = transformers.TABLE.to_theirs(name)
    if found is None:
        raise CheckpointError(f"Expected a name for {name} in the transformers layout. This is a bug in fastvlm.")
    return found


def _write_bfloat16(shapes: Mapping[str, Shape], named: Mapping[str, str], path: Path, *, seed: int) -> None:
    """Write random tensors as safetensors, whose library has no way to write bfloat16 without torch."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[named[name]] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    # Padded, so that the numbers start where processors like them to.
    text += b" " * (-(8 + len(text)) % 64)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, (name, shape) in enumerate(shapes.items()):
            file.write(_bits(name, shape, seed + number))


def _bits(name: str, shape: Shape, seed: int) -> bytes:
    """Random values of a tensor as bfloat16; truncated, not rounded: nobody will compare them."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith(("norm.weight", "running_var")):
        values = 0.75 + 0.5 * generator.random(shape, dtype=np.float32)
    elif "scale" in name:
        values = 0.1 + 0.3 * generator.random(shape, dtype=np.float32)
    elif len(shape) > 1:
        values *= np.float32(np.prod(shape[1:]) ** -0.5)
    else:
        values *= np.float32(0.1)
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
