"""ONNX Runtime with the graphs that its users run: the encoder exported by torch, the decoder of its fused operators.

Its processor kernels compute in float32; `int4` holds the decoder's matrices in blocks of 4 bits beside inputs rounded
to 8, its fastest form.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastvlm.batches import Float32Array, PromptTokens
from fastvlm.benchmarks.onnx_graph import OnnxGraph, export_encoder
from fastvlm.benchmarks.questions import Answered, Question
from fastvlm.benchmarks.shapes import shape_config, tensors_of
from fastvlm.checkpoints.arrays import Weights
from fastvlm.models.language.config import DecoderConfig

_CONTRIB = "com.microsoft"
_BLOCK = 32
_ROUNDED_INPUTS = 4
"""What `accuracy_level` calls inputs in 8 bits."""


class OnnxSystem:
    """FastVLM in ONNX Runtime, from ready pixels to token ids; keys and values stay in one buffer as it recommends."""

    def __init__(self, shape: str, folder: Path, *, num_threads: int, has_int4_weights: bool) -> None:
        import onnxruntime

        self._config = shape_config(shape).decoder
        self._runtime = onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = num_threads
        self._shape, self._folder, self._num_threads = shape, folder, num_threads
        weights = Weights(tensors_of(folder))
        with tempfile.TemporaryDirectory() as graphs:
            builder = OnnxDecoder(self._config, weights, Path(graphs), has_int4_weights=has_int4_weights)
            self._decoder = self._session(builder.write())
        self._embeddings = weights.exact("decoder.embed_tokens.weight")
        self._encoder: Any = None
        self._size_px = 0

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """Encode, embed, prefill and decode."""
        self._prepare_encoder(question.size_px)
        pixels = question.pixels().pixels
        prompt = question.prompt(vocabulary_size=self._config.vocabulary_size)
        cache = self._empty_cache(len(prompt) + num_tokens)
        started_s = time.perf_counter()
        token_id = self._step(self._embedded(prompt, self._encoder.run(None, {"pixels": pixels})[0]), cache, 0)
        times_ms = [(time.perf_counter() - started_s) * 1000]
        for position in range(len(prompt), len(prompt) + num_tokens - 1):
            token_id = self._step(self._embeddings[token_id][None, None], cache, position)
            times_ms.append((time.perf_counter() - started_s) * 1000)
        return Answered(times_ms)

    def _session(self, path: Path) -> Any:
        return self._runtime.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])

    def _prepare_encoder(self, size_px: int) -> None:
        if size_px == self._size_px:
            return
        with tempfile.TemporaryDirectory() as graphs:
            path = Path(graphs) / "encoder.onnx"
            export_encoder(self._shape, self._folder, path, size_px=size_px)
            self._encoder, self._size_px = self._session(path), size_px

    def _embedded(self, prompt: PromptTokens, visual_tokens: Float32Array) -> Float32Array:
        embeddings = self._embeddings[prompt.token_ids]
        embeddings[prompt.image_index >= 0] = visual_tokens[0]
        return embeddings[None]

    def _empty_cache(self, num_positions: int) -> list[Any]:
        config = self._config
        shape = (1, config.num_key_value_heads, num_positions, config.head_dim)
        # Memory of each one's own: the library takes that of an array as it is.
        make = self._runtime.OrtValue.ortvalue_from_numpy
        return [make(np.zeros(shape, np.float32)) for _ in range(2 * config.num_layers)]

    def _step(self, embeddings: Float32Array, cache: list[Any], num_held: int) -> int:
        """Read embeddings, 1 x T x width, behind so many held positions; returns the likeliest next token."""
        num_all = num_held + embeddings.shape[1]
        binding = self._decoder.io_binding()
        binding.bind_output("logits")
        binding.bind_cpu_input("embeddings", embeddings)
        binding.bind_cpu_input("last_position", np.array([num_all - 1], np.int32))
        binding.bind_cpu_input("num_positions", np.array(num_all, np.int32))
        for number, held in enumerate(cache):
            # One buffer as input and output: what is new is written behind what is held.
            binding.bind_ortvalue_input(f"past.{number}", held)
            binding.bind_ortvalue_output(f"present.{number}", held)
        self._decoder.run_with_iobinding(binding)
        return int(binding.get_outputs()[0].numpy().argmax())


class OnnxDecoder:
    """Writes a decoder over embeddings as a graph of ONNX Runtime's operators."""

    def __init__(self, config: DecoderConfig, weights: Weights, folder: Path, *, has_int4_weights: bool) -> None:
        self._config, self._weights, self._folder = config, weights, folder
        self._has_int4_weights = has_int4_weights
        self._graph = OnnxGraph(folder, domains=[_CONTRIB])

    def write(self) -> Path:
        """Write the graph. Inputs: embeddings 1 x T x width, last_position 1, num_positions, keys and values as
        past.0, past.1, ...; outputs: logits 1 x vocabulary and present.0, present.1, ..."""
        config = self._config
        with self._graph as graph:
            self._write_angles()
            x, normed = "embeddings", self._normed("embeddings", "decoder.layers.0.attention_norm.weight")
            for layer in range(config.num_layers):
                x, normed = self._layer(x, normed, layer)
            picked = graph.add("Gather", [normed, graph.constant("last", np.array(-1, np.int64))], axis=1)
            head = "decoder.embed_tokens.weight" if config.has_tied_head else "decoder.head.weight"
            self._linear(picked, head, output="logits")
        cache = (1, config.num_key_value_heads, "held", config.head_dim)
        numbers = range(2 * config.num_layers)
        path = self._folder / "decoder.onnx"
        graph.save(
            path,
            inputs={
                "embeddings": ("FLOAT", (1, "new", config.width)),
                "last_position": ("INT32", (1,)),
                "num_positions": ("INT32", ()),
                **{f"past.{number}": ("FLOAT", cache) for number in numbers},
            },
            outputs={
                "logits": (1, config.vocabulary_size),
                **{f"present.{number}": cache for number in numbers},
            },
        )
        return path

    def _layer(self, x: str, normed: str, layer: int) -> tuple[str, str]:
        """Returns the layer's output, and what the next one starts with, normalised."""
        config, name = self._config, f"decoder.layers.{layer}"
        query, key, value = (
            self._linear(normed, f"{name}.attention.{part}.weight", has_bias=config.has_attention_bias)
            for part in ("query", "key", "value")
        )
        number = 2 * layer
        caches = [f"past.{number}", f"past.{number + 1}"]
        mixed = self._graph.add(
            "GroupQueryAttention",
            [query, key, value, *caches, "last_position", "num_positions", "cosine", "sine"],
            outputs=[f"{name}.mixed", f"present.{number}", f"present.{number + 1}"],
            domain=_CONTRIB,
            num_heads=config.num_heads,
            kv_num_heads=config.num_key_value_heads,
            do_rotary=1,
        )
        mixed = self._linear(mixed, f"{name}.attention.output.weight")
        x, normed = self._added_and_normed(x, mixed, f"{name}.feed_forward_norm.weight")
        gate = self._linear(normed, f"{name}.feed_forward.gate.weight")
        gate = self._graph.add("QuickGelu", [gate], domain=_CONTRIB, alpha=1.0)
        product = self._graph.add("Mul", [gate, self._linear(normed, f"{name}.feed_forward.up.weight")])
        down = self._linear(product, f"{name}.feed_forward.down.weight")
        is_last = layer + 1 == config.num_layers
        following = "decoder.norm.weight" if is_last else f"decoder.layers.{layer + 1}.attention_norm.weight"
        return self._added_and_normed(x, down, following)

    def _linear(self, x: str, name: str, *, has_bias: bool = False, output: str = "") -> str:
        matrix = self._weights.exact(name)
        outputs = [output] if output and not has_bias else None
        if self._has_int4_weights:
            packed, scales = _in_four_bits(matrix)
            inputs = [x, self._graph.constant(f"{name}.packed", packed), self._graph.constant(f"{name}.scales", scales)]
            product = self._graph.add(
                "MatMulNBits",
                inputs,
                outputs=outputs,
                domain=_CONTRIB,
                K=matrix.shape[1],
                N=matrix.shape[0],
                bits=4,
                block_size=_BLOCK,
                accuracy_level=_ROUNDED_INPUTS,
            )
        else:
            product = self._graph.add("MatMul", [x, self._graph.constant(name, matrix.T)], outputs=outputs)
        if not has_bias:
            return product
        bias = name.removesuffix("weight") + "bias"
        return self._graph.add("Add", [product, self._graph.constant(bias, self._weights.exact(bias))])

    def _normed(self, x: str, name: str) -> str:
        scale = self._graph.constant(name, self._weights.exact(name))
        return self._graph.add(
            "SimplifiedLayerNormalization", [x, scale], axis=-1, epsilon=self._config.norm_epsilon, stash_type=1
        )

    def _added_and_normed(self, x: str, change: str, name: str) -> tuple[str, str]:
        scale = self._graph.constant(name, self._weights.exact(name))
        normed, total = f"{name}.normed", f"{name}.sum"
        self._graph.add(
            "SkipSimplifiedLayerNormalization",
            [x, change, scale],
            outputs=[normed, "", "", total],
            domain=_CONTRIB,
            epsilon=self._config.norm_epsilon,
        )
        return total, normed

    def _write_angles(self) -> None:
        config = self._config
        angles = np.arange(config.max_positions)[:, None] * config.rotary_frequencies()
        self._graph.constant("cosine", np.cos(angles).astype(np.float32))
        self._graph.constant("sine", np.sin(angles).astype(np.float32))


def _in_four_bits(matrix: Float32Array) -> tuple[npt.NDArray[np.uint8], Float32Array]:
    """Round N x K in blocks of 32 of a row: packed N x blocks x 16, the lower half of a byte first, and scales."""
    num_rows, num_columns = matrix.shape
    blocks = matrix.reshape(num_rows, num_columns // _BLOCK, _BLOCK)
    extremes = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = extremes / -8
    levels = np.rint(blocks / np.where(scales == 0, 1, scales)).clip(-8, 7) + 8
    low, high = (levels[..., start::2].astype(np.uint8) for start in (0, 1))
    packed: npt.NDArray[np.uint8] = low | (high << np.uint8(4))
    return packed, scales.astype(np.float32).reshape(num_rows, -1)
