"""The decoder in C++: the numbers of the plain model in each format, whatever is read together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvlm.checkpoints.arrays import Weights, to_bfloat16, to_float32
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import GenerationError
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.kernels import decoder as decoder_module
from fastvlm.runtimes.kernels import library
from fastvlm.runtimes.kernels.decoder import KernelCache, KernelDecoder
from fastvlm.runtimes.kernels.decoder_packing import suits
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.runtimes.quantization import GROUP_SIZE, quantized_int4, quantized_int8
from support.runtimes import CONFIG, random_model, stored_tensors

REASON = library.reason_against()
needs_kernels = pytest.mark.skipif(REASON is not None, reason=f"no kernels here: {REASON}")

# A vocabulary that fills no panel, and more queries than keys.
QWEN = DecoderConfig(
    vocabulary_size=301, width=128, num_layers=3, num_heads=4, num_key_value_heads=2, feed_forward_width=192,
    head_dim=32, max_positions=4096, rope_theta=10_000.0,
)  # fmt: skip
LLAMA = replace(
    QWEN, vocabulary_size=97, width=192, num_heads=2, num_key_value_heads=2, head_dim=96, feed_forward_width=320,
    norm_epsilon=1e-5, has_attention_bias=False, has_tied_head=False,
)  # fmt: skip
WIDE = replace(QWEN, width=256, num_heads=8, num_key_value_heads=1, head_dim=128, feed_forward_width=64, num_layers=1)
SHAPES = {"qwen": QWEN, "llama": LLAMA, "wide": WIDE}

FORMATS: tuple[WeightFormat | None, ...] = (None, "int8", "int4")


def stored(config: DecoderConfig, folder: Path) -> tuple[FastVLM, dict[str, StoredTensor]]:
    model = random_model(VLMConfig(vision=CONFIG.vision, decoder=config)).eval()
    return model, stored_tensors(model, folder)


@pytest.fixture(scope="module", params=list(SHAPES))
def shape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    config = SHAPES[request.param]
    yield config, *stored(config, tmp_path_factory.mktemp("weights"))


def opened(
    config: DecoderConfig, tensors: dict[str, StoredTensor], weight_format: WeightFormat | None = None, threads: int = 2
) -> KernelDecoder:
    return KernelDecoder(config, Weights(tensors), weight_format=weight_format, num_threads=threads)


def rows(config: DecoderConfig, num_rows: int, num_positions: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_rows, num_positions, config.width), dtype=np.float32)


def rounded(values: np.ndarray, weight_format: WeightFormat | None) -> np.ndarray:
    """A matrix as it is held."""
    if weight_format is None:
        return to_float32(to_bfloat16(values))
    if weight_format == "int8":
        whole, scales = quantized_int8(values)
        return whole * scales[:, None]
    packed, scales = quantized_int4(values)
    numbers = np.stack([packed & 15, packed >> 4], -1).reshape(*scales.shape, GROUP_SIZE).astype(np.float32) - 8
    return (numbers * scales[..., None]).reshape(values.shape)


@torch.no_grad()
def expected_logits(
    model: FastVLM, config: DecoderConfig, embeddings: np.ndarray, weight_format: WeightFormat | None
) -> np.ndarray:
    """Of every position of one row, by torch in float32, with matrices rounded as the kernels hold them."""
    decoder = random_model(model.config).eval().decoder
    for name, parameter in decoder.named_parameters():
        if parameter.ndim == 2 and ("layers" in name or name == "head.weight"):
            held = "int8" if name == "head.weight" and weight_format else weight_format
            parameter.copy_(torch.from_numpy(rounded(parameter.numpy(), held)))
    if config.has_tied_head:
        weight = decoder.embed_tokens.weight
        weight.copy_(torch.from_numpy(rounded(weight.numpy(), "int8" if weight_format else None)))
    hidden = torch.from_numpy(embeddings)[None]
    return decoder.logits(decoder(hidden, positions=torch.arange(hidden.shape[1])[None]))[0].numpy()


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@needs_kernels
@pytest.mark.parametrize(("weight_format", "limit"), [(None, 0.02), ("int8", 0.06), ("int4", 0.06)])
def test_the_kernels_have_the_numbers_of_the_plain_model(
    shape: tuple, weight_format: WeightFormat | None, limit: float
) -> None:
    """But for their inputs, which are rounded: prompts of every number of rows, words, and more behind them."""
    config, model, tensors = shape
    decoder = opened(config, tensors, weight_format)
    (embeddings,) = rows(config, 1, 40)
    expected = expected_logits(model, config, embeddings, weight_format)
    for length in (*range(1, 15), 33):
        cache = decoder.new_cache(np.zeros(1, np.int64))
        assert distance(decoder.read(cache, embeddings[None, :length])[0], expected[length - 1]) < limit, length
    for end in (34, 35, 38, 40):
        found = decoder.read(cache, embeddings[None, cache.num_positions : end])
        assert distance(found[0], expected[end - 1]) < limit, end
    assert cache.num_positions == 40


@needs_kernels
@pytest.mark.parametrize("weight_format", FORMATS)
def test_rows_that_are_read_together_have_the_numbers_of_each_alone(
    shape: tuple, weight_format: WeightFormat | None
) -> None:
    """Left-padded, one of them so far that a piece of the prompt holds nothing of it; and in pieces of any size."""
    config, _, tensors = shape
    decoder = opened(config, tensors, weight_format)
    embeddings, num_padding = rows(config, 3, 30), np.array([0, 19, 7])

    def read(cache: KernelCache, embeddings: np.ndarray, start: int) -> np.ndarray:
        """A prompt until 24, three words and three more at once: pieces x rows x vocabulary."""
        ends = (24, 25, 26, 27, 30)
        return np.stack([decoder.read(cache, embeddings[:, begin:end]) for begin, end in pairwise((start, *ends))])

    together = read(decoder.new_cache(num_padding), embeddings, 0)
    for row, padding in enumerate(num_padding):
        alone = read(decoder.new_cache(np.zeros(1, np.int64)), embeddings[row : row + 1], padding)
        np.testing.assert_array_equal(together[:, row], alone[:, 0])


@needs_kernels
@pytest.mark.parametrize("at_once", [5, 16])
def test_a_long_prompt_is_read_in_pieces(shape: tuple, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    config, _, tensors = shape
    decoder = opened(config, tensors, "int8")
    embeddings, num_padding = rows(config, 2, 50), np.array([0, 18])
    whole = decoder.read(decoder.new_cache(num_padding), embeddings)
    monkeypatch.setattr(decoder_module, "MAX_POSITIONS_AT_ONCE", at_once)
    np.testing.assert_array_equal(decoder.read(decoder.new_cache(num_padding), embeddings), whole)


@needs_kernels
def test_a_cache_grows_and_forgets(shape: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _, tensors = shape
    decoder = opened(config, tensors)
    embeddings = rows(config, 1, 60)
    expected = decoder.read(decoder.new_cache(np.zeros(1, np.int64)), embeddings)
    monkeypatch.setattr(decoder_module, "_FIRST_CAPACITY", 16)
    cache = decoder.new_cache(np.zeros(1, np.int64))
    decoder.read(cache, embeddings[:, :41])
    decoder.read(cache, embeddings[:, :9] + 1)
    cache.keep(41)
    for start in range(41, 60):
        found = decoder.read(cache, embeddings[:, start : start + 1])
    np.testing.assert_array_equal(found, expected)
    assert cache.rows[0].values.shape[2] % 16 == 0 and cache.num_positions == 60


@needs_kernels
@pytest.mark.parametrize("weight_format", FORMATS)
def test_numbers_depend_neither_on_threads_nor_on_who_else_asks(
    shape: tuple, weight_format: WeightFormat | None
) -> None:
    config, _, tensors = shape
    embeddings = rows(config, 1, 60)

    def answer(decoder: KernelDecoder) -> np.ndarray:
        cache = decoder.new_cache(np.zeros(1, np.int64))
        logits = [decoder.read(cache, embeddings[:, :40])]
        return np.stack([*logits, *(decoder.read(cache, embeddings[:, i : i + 1]) for i in range(40, 60))])

    expected = answer(opened(config, tensors, weight_format, 1))
    shared = opened(config, tensors, weight_format, 3)
    np.testing.assert_array_equal(answer(shared), expected)
    found: list[np.ndarray] = []
    callers = [threading.Thread(target=lambda: found.append(answer(shared))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4
    for each in found:
        np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize(
    "changed",
    [
        {"width": 96},
        {"feed_forward_width": 100},
        {"head_dim": 16},
        {"head_dim": 512},
        {"num_layers": 0},
        {"num_heads": 6, "num_key_value_heads": 4},
        {"num_key_value_heads": 0},
    ],
)
def test_other_shapes_are_left_to_the_graphs(changed: dict[str, int]) -> None:
    assert suits(QWEN) and not suits(replace(QWEN, **changed))


@needs_kernels
def test_threads_that_cannot_be_had_are_told(tmp_path: Path) -> None:
    """In a process of its own, whose memory has no room for so many."""
    program = (
        "import resource, sys\n"
        "from fastvlm.benchmarks.shapes import random_checkpoint, shape_config, tensors_of\n"
        "from fastvlm.checkpoints.arrays import Weights\n"
        "from fastvlm.errors import GenerationError\n"
        "from fastvlm.runtimes.kernels.decoder import KernelDecoder\n"
        "from pathlib import Path\n"
        "weights = Weights(tensors_of(random_checkpoint('tiny', Path(sys.argv[1]) / 'tiny')))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "try:\n"
        "    KernelDecoder(shape_config('tiny').decoder, weights, num_threads=5000)\n"
        "except GenerationError as error:\n"
        "    print(error)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout.startswith("Expected memory and 5000 threads"), finished.stderr


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_was_forked_off_reads_alone(shape: tuple) -> None:
    config, _, tensors = shape
    decoder, embeddings = opened(config, tensors, None, 3), rows(config, 1, 30)
    expected = decoder.read(decoder.new_cache(np.zeros(1, np.int64)), embeddings)
    child = os.fork()
    if child == 0:
        found = decoder.read(decoder.new_cache(np.zeros(1, np.int64)), embeddings)
        os._exit(0 if np.array_equal(found, expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@needs_kernels
def test_a_cache_for_which_there_is_no_memory_stays_as_it_was(shape: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _, tensors = shape
    decoder, embeddings = opened(config, tensors), rows(config, 1, 300)
    cache = decoder.new_cache(np.zeros(1, np.int64))
    decoder.read(cache, embeddings[:, :250])
    longer, num_made = decoder_module._longer, []

    def second_fails(*given: object) -> object:
        num_made.append(1)
        if len(num_made) == 2:
            raise MemoryError
        return longer(*given)

    monkeypatch.setattr(decoder_module, "_longer", second_fails)
    with pytest.raises(GenerationError, match="memory"):
        decoder.read(cache, embeddings[:, 250:])
    assert cache.num_positions == 250 and cache.rows[0].keys.shape == cache.rows[0].values.shape
    whole = decoder.read(decoder.new_cache(np.zeros(1, np.int64)), embeddings)
    np.testing.assert_array_equal(decoder.read(cache, embeddings[:, 250:]), whole)
