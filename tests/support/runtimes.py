"""A tiny model with random weights, and questions for it as arrays: what the tests of all runtimes share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from fastvlm.batches import Float32Array, Int64Array, PixelTiles, PromptTokens
from fastvlm.checkpoints.tensors import SINGLE_FILE, StoredTensor, read_header
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.openvino.engine import Compiled
from fastvlm.runtimes.protocol import Embeddings, Runtime
from fastvlm.tiles import TileLayout

CONFIG = VLMConfig(
    vision=FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 32, 64), layer_scale_init=0.1),
    decoder=DecoderConfig(
        vocabulary_size=97,
        width=32,
        num_layers=3,
        num_heads=4,
        num_key_value_heads=2,
        feed_forward_width=48,
        head_dim=8,
        max_positions=128,
        rope_theta=10_000.0,
    ),
)


def random_model(config: VLMConfig = CONFIG) -> FastVLM:
    """Weights that keep activations near one, so that pictures matter and greedy answers vary."""
    torch.manual_seed(1)
    model = FastVLM(config)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                continue
            if "scale" in name:
                tensor.uniform_(0.05, 0.15)
            elif name.endswith(("norm.weight", "running_var")):
                tensor.uniform_(0.75, 1.25)
            elif tensor.ndim == 1:
                tensor.normal_(std=0.1)
            elif tensor.ndim > 1:
                fan_in = 4 if "embed_tokens" in name else tensor[0].numel()
                tensor.normal_(std=((3 if "vision" in name else 1.5) / fan_in) ** 0.5)
    return model


def stored_tensors(model: FastVLM, folder: Path) -> dict[str, StoredTensor]:
    """Save the weights of a model in a folder, and list them."""
    file = folder / SINGLE_FILE
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)
    return read_header(file)


def tiles(layout: TileLayout, seed: int = 0) -> PixelTiles:
    shape = (layout.num_tiles, layout.tile_height_px, layout.tile_width_px, 3)
    return PixelTiles(np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8), plain_table(), layout)


def plain_table() -> Float32Array:
    """Levels from 0 to 1, a little apart for each channel."""
    levels = np.arange(256, dtype=np.float32) / 255
    return np.stack([levels, 0.9 * levels, 0.8 * levels])


def prompt(*pieces: list[int] | tuple[int, int]) -> PromptTokens:
    """Lists are ids; a pair is an image's number and how many slots it gets."""
    token_ids: list[int] = []
    image_index: list[int] = []
    for piece in pieces:
        if isinstance(piece, list):
            token_ids += piece
            image_index += [-1] * len(piece)
        else:
            token_ids += [0] * piece[1]
            image_index += [piece[0]] * piece[1]
    return PromptTokens(
        np.array(token_ids, dtype=np.int64), np.array(image_index, dtype=np.int64), np.zeros(len(token_ids), dtype=bool)
    )


def greedy(runtime: Runtime, embeddings: list[Embeddings], *, num_tokens: int) -> Int64Array:
    """Answers of B prompts as one batch: B x num_tokens."""
    logits, cache = runtime.prefill(embeddings)
    answers = [logits.argmax(-1)]
    while len(answers) < num_tokens:
        answers.append(runtime.decode(answers[-1], cache).argmax(-1))
    return np.stack(answers, axis=1)


def node_kinds(compiled: Compiled, *, precision: str = "") -> Counter[str]:
    """What OpenVINO's plugin made of a graph: nodes by kind, those alone whose kernels compute in `precision`."""
    nodes = (node.get_rt_info() for node in compiled.model.get_runtime_model().get_ops())
    return Counter(
        info["layerType"].astype(str) for info in nodes if info["primitiveType"].astype(str).lower().endswith(precision)
    )
