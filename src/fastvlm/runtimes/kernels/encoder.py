"""An encoder and a projector that the kernels compute."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.checkpoints.arrays import Weights
from fastvlm.errors import GenerationError
from fastvlm.models.config import VLMConfig
from fastvlm.runtimes.encoder_layers import EncoderLayers
from fastvlm.runtimes.kernels import library as kernels
from fastvlm.runtimes.kernels.encoder_packing import encoder_packing
from fastvlm.runtimes.kernels.packed import Packed, check_opened


class KernelEncoder:
    """FastViTHD with its projector in the kernels, for pictures of any size. ranges: see `encoder_packing`; path: where
    its packed weights are kept, None to keep none. Serves one caller at a time.

    Raises NoLibraryError where there are no kernels, CheckpointError for ranges that do not fit the encoder,
    GenerationError where no threads can be had.
    """

    def __init__(
        self,
        config: VLMConfig,
        weights: Weights,
        *,
        ranges: Mapping[str, float] | None = None,
        path: Path | None = None,
        num_threads: int,
    ) -> None:
        self._config, self._library = config, kernels.load().functions
        packing = encoder_packing(EncoderLayers(config.vision, weights), config.decoder.width, ranges)
        self._packed = Packed(packing, weights, path, num_threads=num_threads)
        packed, vision = self._packed, config.vision
        # The kernels read these, too.
        self._stages = (kernels.Stage * len(vision.depths))(*map(self._stage, range(len(vision.depths))))
        shape = kernels.EncoderShape(
            packed.place("stem.weights"), packed.place("stem.bias"),
            packed.depthwise("stem.spatial", vision.widths[0]), packed.pointwise("stem.pointwise"), self._stages,
            packed.depthwise("expansion", vision.widths[-1], int(vision.expansion_ratio)),
            *map(packed.pointwise, ("reduce", "restore", "first", "second")),
            len(vision.depths), vision.head_dim, EncoderLayers.norm_epsilon,
        )  # fmt: skip
        self._handle = self._library.fastvlm_open_encoder(shape, num_threads)
        check_opened(self._handle, num_threads)
        self._num_tokens = 0
        # Not when the process ends: a thread of a server may still be encoding then.
        weakref.finalize(self, self._library.fastvlm_close_encoder, self._handle).atexit = False

    def _stage(self, index: int) -> kernels.Stage:
        packed, vision, name = self._packed, self._config.vision, f"stages.{index}"
        width, depth, is_attention = vision.widths[index], vision.depths[index], self._is_attention(index)
        stage = kernels.Stage(
            blocks=(kernels.Block * depth)(*(self._block(f"{name}.blocks.{n}", index) for n in range(depth))),
            width=width, depth=depth, has_patch=index > 0, has_position=is_attention,
        )  # fmt: skip
        if index:
            previous = vision.widths[index - 1]
            stage.patch = packed.depthwise(f"{name}.patch_embedding.spatial", previous, width // previous)
            stage.pointwise = packed.pointwise(f"{name}.patch_embedding.pointwise")
        if is_attention:
            stage.position = packed.depthwise(f"{name}.position_encoding", width)
        return stage

    def _block(self, name: str, index: int) -> kernels.Block:
        packed, width, is_attention = self._packed, self._config.vision.widths[index], self._is_attention(index)
        block = kernels.Block(
            spatial=packed.depthwise(f"{name}.feed_forward.spatial", width),
            expand=packed.pointwise(f"{name}.feed_forward.expand"),
            contract=packed.pointwise(f"{name}.feed_forward.contract"),
            is_attention=is_attention,
        )
        if is_attention:
            block.mixed = packed.pointwise(f"{name}.attention.qkv")
            block.attended = packed.pointwise(f"{name}.attention.output")
        else:
            block.mixer = packed.depthwise(f"{name}.token_mixer", width)
        return block

    def _is_attention(self, index: int) -> bool:
        return self._config.vision.token_mixers[index] == "attention"

    def fetch(self) -> None:
        """See `Packed.fetch`."""
        self._packed.fetch()

    def prepare(self, count: int, height_px: int, width_px: int) -> None:
        """Take the memory for pictures of this size, which `encode` does too, and tells where there is none."""
        self._library.fastvlm_prepare(self._handle, count, height_px, width_px)

    def encode(self, levels: UInt8Array, table: Float32Array) -> None:
        """Encode what PixelTiles hold; `project` gives what came of it. Raises GenerationError for no memory."""
        count, height, width, _ = levels.shape
        levels, table = np.ascontiguousarray(levels, np.uint8), np.ascontiguousarray(table, np.float32)
        addresses = levels.ctypes.data, table.ctypes.data
        self._check(self._library.fastvlm_encode(self._handle, *addresses, count, height, width))
        stride = self._config.vision.stride_px
        self._num_tokens = count * (height // stride) * (width // stride)

    def project(self) -> Float32Array:
        """The visual tokens of what was encoded last, N * H/64 * W/64 x decoder width. Raises as `encode` does."""
        tokens = np.empty((self._num_tokens, self._config.decoder.width), np.float32)
        self._check(self._library.fastvlm_project(self._handle, tokens.ctypes.data))
        return tokens

    @staticmethod
    def _check(failed: int) -> None:
        if failed:
            raise GenerationError("Expected memory to encode a picture, there is not enough. Take a smaller one.")
