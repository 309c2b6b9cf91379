"""Which tensors a checkpoint must hold, no more and no fewer. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from fastvlm.checkpoints.tensors import StoredTensor, some
from fastvlm.errors import CheckpointError
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]

COUNTER = ".num_batches_tracked"
CLIP_HEAD = "vision.clip_head."


def check_tensors(expected: Mapping[str, Shape], found: Mapping[str, StoredTensor], folder: Path) -> None:
    """Compare names and shapes; only the counters of BatchNorm, which nothing depends on, may be absent.

    Raises CheckpointError that names what is missing, unexpected or misshaped.
    """
    missing = sorted(name for name in expected.keys() - found.keys() if not name.endswith(COUNTER))
    if missing:
        raise CheckpointError(
            f"Expected {len(expected)} tensors in {folder}, {len(missing)} are missing: {some(missing)}. "
            "Fetch the weights again, or correct config.json."
        )
    unexpected = sorted(found[name].name for name in found.keys() - expected.keys())
    if unexpected:
        raise CheckpointError(
            f"Expected no tensors in {folder} but those that config.json describes, got {some(unexpected)}. "
            "Weights and config.json do not belong together."
        )
    misshaped = [
        f"{found[name].name} {list(found[name].shape)} instead of {list(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if found[name].shape != expected[name]
    ]
    if misshaped:
        raise CheckpointError(
            f"Expected the shapes that {folder / 'config.json'} describes, got {some(misshaped)}. "
            "Weights and config.json do not belong together."
        )


def fused_shapes(config: VLMConfig) -> dict[str, Shape]:
    """Every tensor of a model with its encoder in fused form, by our names; without a CLIP head and counters."""
    width = config.decoder.width
    return {
        **{f"vision.{name}": shape for name, shape in _vision(config.vision)},
        **dict(_linear("projector.linear_1", width, config.vision.output_width)),
        **dict(_linear("projector.linear_2", width, width)),
        **{f"decoder.{name}": shape for name, shape in _decoder(config.decoder)},
    }


def _vision(config: FastViTHDConfig) -> Shapes:
    width = config.widths[0]
    yield from _kernel("stem.blocks.0.fused", width, 3, 3)
    yield from _kernel("stem.blocks.1.fused", width, 1, 3)
    yield from _kernel("stem.blocks.2.fused", width, width, 1)
    for index, (width, depth, mixer) in enumerate(zip(config.widths, config.depths, config.token_mixers, strict=True)):
        name = f"stages.{index}"
        if index:
            yield from _kernel(f"{name}.patch_embedding.spatial.fused", width, 1, 7)
            yield from _kernel(f"{name}.patch_embedding.pointwise.fused", width, width, 1)
        if mixer == "attention":
            yield from _kernel(f"{name}.position_encoding.fused", width, 1, 7)
        block = _attention_block if mixer == "attention" else _mixer_block
        for number in range(depth):
            yield from block(f"{name}.blocks.{number}", width)
            yield from _feed_forward(
                f"{name}.blocks.{number}.feed_forward", width, int(width * config.feed_forward_ratio)
            )
    expanded = int(width * config.expansion_ratio)
    squeezed = int(expanded * config.squeeze_ratio)
    yield from _kernel("expansion.conv.fused", expanded, 1, 3)
    yield from _kernel("expansion.squeeze_excite.reduce", squeezed, expanded, 1)
    yield from _kernel("expansion.squeeze_excite.expand", expanded, squeezed, 1)
    if config.multi_scale == "depthwise":
        earlier = config.widths[1:-1]
        for index, width in enumerate(earlier):
            yield from _kernel(f"multi_scale.pools.{index}", width, 1, 2 ** (len(earlier) - index))


def _mixer_block(name: str, width: int) -> Shapes:
    yield from _kernel(f"{name}.token_mixer.fused", width, 1, 3)
    yield f"{name}.layer_scale", (width, 1, 1)


def _attention_block(name: str, width: int) -> Shapes:
    yield f"{name}.norm.weight", (width,)
    yield f"{name}.norm.bias", (width,)
    yield f"{name}.attention.qkv.weight", (3 * width, width)
    yield from _linear(f"{name}.attention.output", width, width)
    yield f"{name}.attention_scale", (width, 1, 1)
    yield f"{name}.feed_forward_scale", (width, 1, 1)


def _feed_forward(name: str, width: int, hidden: int) -> Shapes:
    yield f"{name}.spatial.conv.weight", (width, 1, 7, 7)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.spatial.norm.{part}", (width,)
    yield from _kernel(f"{name}.expand", hidden, width, 1)
    yield from _kernel(f"{name}.contract", width, hidden, 1)


def _decoder(config: DecoderConfig) -> Shapes:
    width, hidden = config.width, config.feed_forward_width
    query, key = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    yield "embed_tokens.weight", (config.vocabulary_size, width)
    for index in range(config.num_layers):
        name = f"layers.{index}"
        yield f"{name}.attention_norm.weight", (width,)
        for part, size in (("query", query), ("key", key), ("value", key)):
            yield f"{name}.attention.{part}.weight", (size, width)
            if config.has_attention_bias:
                yield f"{name}.attention.{part}.bias", (size,)
        yield f"{name}.attention.output.weight", (width, query)
        yield f"{name}.feed_forward_norm.weight", (width,)
        yield f"{name}.feed_forward.gate.weight", (hidden, width)
        yield f"{name}.feed_forward.up.weight", (hidden, width)
        yield f"{name}.feed_forward.down.weight", (width, hidden)
    yield "norm.weight", (width,)
    if not config.has_tied_head:
        yield "head.weight", (config.vocabulary_size, width)


def _kernel(name: str, out: int, into: int, size: int) -> Shapes:
    yield f"{name}.weight", (out, into, size, size)
    yield f"{name}.bias", (out,)


def _linear(name: str, out: int, into: int) -> Shapes:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)
