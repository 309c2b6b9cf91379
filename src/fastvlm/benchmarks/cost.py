"""What an answer costs at least: multiplications of the model, and how many a machine makes in a second."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig


def encoder_macs(config: FastViTHDConfig, *, height_px: int, width_px: int) -> int:
    """Multiply-accumulates of one picture through FastViTHD in its fused form, without those of norms and sums."""
    width = config.widths[0]
    positions = height_px * width_px // 16
    total = 4 * positions * width * 3 * 9 + positions * width * (9 + width)
    for index, (width, depth, mixer) in enumerate(zip(config.widths, config.depths, config.token_mixers, strict=True)):
        if index:
            positions //= 4
            total += positions * width * (49 + width)
        hidden = int(width * config.feed_forward_ratio)
        block = positions * width * (49 + 2 * hidden)
        if mixer == "attention":
            total += positions * width * 49
            block += positions * width * (4 * width + 2 * positions)
        else:
            block += positions * width * 9
        total += depth * block
    return total + positions * int(width * config.expansion_ratio) * 9


def projector_macs(config: VLMConfig, *, num_tokens: int) -> int:
    """Multiply-accumulates of the two layers of the projector."""
    return num_tokens * config.decoder.width * (config.vision.output_width + config.decoder.width)


def prefill_macs(config: DecoderConfig, *, num_tokens: int) -> int:
    """Multiply-accumulates of reading a prompt, with the head on its last position only."""
    query, key = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    matrices = config.width * (2 * query + 2 * key + 3 * config.feed_forward_width)
    # Causal attention looks at half of all pairs of positions.
    attention = num_tokens * query
    return num_tokens * config.num_layers * (matrices + attention) + config.width * config.vocabulary_size


def first_token_macs(config: VLMConfig, *, size_px: int, num_text_tokens: int) -> int:
    """Multiply-accumulates from the pixels of a square picture to the scores of the first token."""
    num_visual = (size_px // config.vision.stride_px) ** 2
    return (
        encoder_macs(config.vision, height_px=size_px, width_px=size_px)
        + projector_macs(config, num_tokens=num_visual)
        + prefill_macs(config.decoder, num_tokens=num_visual + num_text_tokens)
    )


@dataclass(frozen=True, kw_only=True)
class MachinePeak:
    """What a machine reaches on its best day. tera_ops_per_second: 2 for each multiply-accumulate, by precision."""

    tera_ops_per_second: dict[str, float]
    memory_gb_per_second: float

    def floor_ms(self, macs: int, *, precision: str) -> float:
        """How long so many multiply-accumulates take at the peak of a precision."""
        return 2 * macs / self.tera_ops_per_second[precision] / 1e9


def measure_peak(precisions: tuple[str, ...], *, num_threads: int, num_runs: int = 7) -> MachinePeak:
    """Measure plain products of large matrices in OpenVINO, and reading more memory than caches hold; the best runs."""
    return MachinePeak(
        tera_ops_per_second={
            precision: _products_per_second(precision, num_threads, num_runs) / 1e12 for precision in precisions
        },
        memory_gb_per_second=_bytes_per_second(num_threads, num_runs) / 1e9,
    )


def _products_per_second(precision: str, num_threads: int, num_runs: int, *, size: int = 2048) -> float:
    import openvino as ov
    from openvino import opset15 as ops

    from fastvlm.runtimes.openvino.engine import Engine
    from fastvlm.runtimes.openvino.graph import Constants, linear

    def build() -> ov.Model:
        constants = Constants(precision)
        x = ops.parameter([size, size], ov.Type.f32)
        y = x
        for seed in range(4):
            weight = np.random.default_rng(seed).standard_normal((size, size), dtype=np.float32) / size**0.5
            y = linear(y, weight, None, constants)
        model = ov.Model([ops.result(y)], [x], "products")
        model.constants = constants
        return model

    engine = Engine([], about="", precision=precision, num_threads=num_threads)
    compiled = engine.compiled("products", build)
    request = compiled.request()
    x = np.random.default_rng(9).standard_normal((size, size), dtype=np.float32)
    seconds = []
    for _ in range(num_runs + 2):
        started_s = time.perf_counter()
        request.infer([x])
        seconds.append(time.perf_counter() - started_s)
    return 4 * 2 * size**3 / min(seconds)


def _bytes_per_second(num_threads: int, num_runs: int, *, megabytes: int = 256) -> float:
    parts = [np.ones(megabytes * 1_000_000 // 8) for _ in range(num_threads)]
    seconds = []
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(num_runs):
            started_s = time.perf_counter()
            list(pool.map(np.add.reduce, parts))
            seconds.append(time.perf_counter() - started_s)
    return sum(part.nbytes for part in parts) / min(seconds)
