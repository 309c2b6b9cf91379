"""How far the inputs of an encoder's layers reach on given pictures: what computing in eight bits has to know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fastvlm.batches import PixelTiles
from fastvlm.checkpoints.arrays import Weights
from fastvlm.checkpoints.stored import StoredCheckpoint
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import CheckpointError
from fastvlm.files import write_whole
from fastvlm.models.config import VLMConfig
from fastvlm.processing.images import read_image
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.runtimes.openvino.encoder import FEATURES, EncoderGraph
from fastvlm.runtimes.openvino.engine import Engine


def measure_ranges(
    config: VLMConfig, tensors: Mapping[str, StoredTensor], images: Iterable[PixelTiles]
) -> dict[str, float]:
    """The largest absolute value that each layer of the encoder's stages was given, in float32, by its name."""
    graphs = EncoderGraph(config.vision, Weights(tensors), precision="float32")
    engine = Engine(tensors.values(), about="", precision="float32")
    encoder = engine.compiled(
        "encoder-reaches",
        lambda: graphs.build(num_tiles=-1, height_px=-1, width_px=-1, with_reaches=True),
    )
    request = encoder.request()
    ranges: dict[str, float] = {}
    for image in images:
        for output, value in request.infer([np.ascontiguousarray(image.pixels)]).items():
            (name,) = output.get_names()
            if name != FEATURES:
                ranges[name] = max(ranges.get(name, 0.0), float(value))
    return ranges


def keep_ranges(
    file: Path, config: VLMConfig, tensors: Mapping[str, StoredTensor], images: Iterable[PixelTiles]
) -> None:
    """Measure ranges and write them to a file, unless it is there."""
    if not file.is_file():
        write_whole(file, json.dumps(measure_ranges(config, tensors, images), indent=2) + "\n")


def calibrate(
    stored: StoredCheckpoint,
    pictures: Sequence[Path],
    *,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, float]:
    """The ranges of a checkpoint's encoder on pictures, prepared as the checkpoint wants them.

    report: called with the number of pictures done and of all. Raises CheckpointError for an encoder in the form of
    training or no pictures, ImageError for one that cannot be read.
    """
    if stored.config.vlm.vision.form != "fused":
        raise CheckpointError(
            "Expected an encoder in its fused form to calibrate, got one in the form of training. "
            "Fuse it first with `fastvlm convert SOURCE DESTINATION --fuse`."
        )
    if not pictures:
        raise CheckpointError("Expected pictures to calibrate on, got none. Give a folder of some that are typical.")
    processor = ImageProcessor(stored.config.processing)

    def prepared() -> Iterable[PixelTiles]:
        for number, picture in enumerate(pictures):
            report(number, len(pictures))
            yield processor(read_image(picture))
        report(len(pictures), len(pictures))

    return measure_ranges(stored.config.vlm, stored.tensors, prepared())
