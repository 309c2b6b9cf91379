"""MNN with a folder as its own exporter for language models lays it out, which its wheel does not bring.

`python -m fastvlm.benchmarks.mnn_peer` writes such a folder. Its processor kernels compute in float32; weights of 8 and
4 bits are multiplied with inputs that are rounded to 8.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.benchmarks.commands import leave_when_asked, run_program
from fastvlm.benchmarks.onnx_graph import OnnxGraph, export_encoder
from fastvlm.benchmarks.questions import Answered, Question
from fastvlm.benchmarks.shapes import IMAGE_TOKEN_ID, shape_config, tensors_of
from fastvlm.checkpoints.arrays import Weights
from fastvlm.errors import GenerationError, one_line
from fastvlm.models.language.config import DecoderConfig

_DOMAIN = "LlmExporter"
_ATTENTION = "FusedAttention"
"""Its converter passes what it does not know on by its name."""

_BLOCK = 64
"""Weights that share a scale, as its exporter has it."""

_ALL = np.array([2**31 - 1])
_CONVERTER = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
"""Without the module of that name, which installs a package to report what was converted."""

_PROMPT = "<img>image_0</img>"


class MnnSystem:
    """FastVLM in MNN, from ready pixels to token ids. It holds one size at a time."""

    def __init__(self, shape: str, folder: Path, *, num_threads: int, weight_bits: int | None) -> None:
        self._config = shape_config(shape).decoder
        self._arguments = [shape, str(folder)]
        self._settings = [str(num_threads), str(weight_bits or 32)]
        self._model: Any = None
        self._size_px = 0

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """Encode, embed, prefill and decode."""
        import MNN.expr

        self._prepare(question.size_px)
        model = self._model
        # It takes pictures for BGR.
        pixels = np.ascontiguousarray(question.pixels().levels[0, ..., ::-1])
        token_ids = question.prompt(vocabulary_size=self._config.vocabulary_size).token_ids.tolist()
        model.reset()
        model.generate_init()
        started_s = time.perf_counter()
        data = MNN.expr.const(pixels, list(pixels.shape), MNN.expr.NHWC, MNN.expr.uint8)
        picture = {"data": data, "height": question.size_px, "width": question.size_px}
        slots = model.tokenizer_encode({"text": _PROMPT, "images": [picture]})
        if len(slots) != question.num_visual_tokens:
            raise GenerationError(f"Expected {question.num_visual_tokens} visual tokens from MNN, got {len(slots)}.")
        token_id = self._step(token_ids)
        times_ms = [(time.perf_counter() - started_s) * 1000]
        while len(times_ms) < num_tokens:
            token_id = self._step([token_id])
            times_ms.append((time.perf_counter() - started_s) * 1000)
        return Answered(times_ms)

    def _step(self, token_ids: list[int]) -> int:
        """Read tokens behind those that were read before; returns the likeliest next one."""
        logits: Float32Array = self._model.forward(token_ids).read()
        return int(logits.argmax())

    def _prepare(self, size_px: int) -> None:
        if size_px == self._size_px:
            return
        import MNN.llm

        with tempfile.TemporaryDirectory() as model:
            # In a process of its own, so that the memory for it does not count.
            arguments = [*self._arguments, model, str(size_px), *self._settings]
            _run([sys.executable, "-m", __name__, *arguments])
            self._model = MNN.llm.create(str(Path(model) / "config.json"))
            self._model.load()
        self._size_px = size_px


def write_model(
    shape: str, folder: Path, target: Path, *, size_px: int, num_threads: int, weight_bits: int | None
) -> None:
    """Write a checkpoint of a shape as MNN loads it, for pictures of one size.

    weight_bits: of the decoder, None for float32. Raises GenerationError where MNN's converter fails.
    """
    config, weights = shape_config(shape).decoder, Weights(tensors_of(folder))
    with tempfile.TemporaryDirectory() as graphs:
        export_encoder(shape, folder, Path(graphs) / "encoder.onnx", size_px=size_px, are_rows_alone=True)
        _convert(Path(graphs) / "encoder.onnx", target / "visual.mnn")
        decoder = MnnDecoder(config, weights, Path(graphs)).write()
        _convert(decoder, target / "llm.mnn", weight_bits=weight_bits)
        _name_attention(target / "llm.mnn", Path(graphs) / "llm.json")
    embeddings = weights.exact("decoder.embed_tokens.weight").view(np.uint32)
    (target / "embeddings_bf16.bin").write_bytes((embeddings >> np.uint32(16)).astype(np.uint16).tobytes())
    engine = {"backend_type": "cpu", "thread_num": num_threads, "precision": "low", "memory": "low"}
    settings = {"llm_model": "llm.mnn", "llm_weight": "llm.mnn.weight", "sampler_type": "greedy", **engine}
    (target / "config.json").write_text(json.dumps({**settings, "mllm": engine}))
    described = {
        "hidden_size": config.width,
        "layer_nums": config.num_layers,
        "attention_mask": "float",
        "key_value_shape": [2, 1, 0, config.num_key_value_heads, config.head_dim],
        "is_visual": True,
        "image_size": size_px,
        "image_size_unit": 64,
        "image_pad": IMAGE_TOKEN_ID,
        "vision_start": -1,
        "vision_end": -1,
        "image_mean": [0.0, 0.0, 0.0],
        "image_norm": [1 / 255, 1 / 255, 1 / 255],
    }
    (target / "llm_config.json").write_text(json.dumps(described))
    # Nothing but the picture is ever tokenized: a tokenizer of one word, of the kind that it calls tiktoken.
    word = base64.b64encode(b"a").decode()
    (target / "tokenizer.txt").write_text(f"430 1\n0 0 0\n\n1\n{word}\n")


class MnnDecoder:
    """Writes a decoder over embeddings as an ONNX graph of plain operators, but for attention."""

    def __init__(self, config: DecoderConfig, weights: Weights, folder: Path) -> None:
        self._config, self._weights, self._folder = config, weights, folder
        self._graph = OnnxGraph(folder, domains=[_DOMAIN])

    def write(self) -> Path:
        """Write the graph. Inputs: input_ids, which are embeddings T x 1 x width, attention_mask, position_ids and
        logits_index, where the positions begin that are asked about; output: their logits."""
        config = self._config
        with self._graph as graph:
            self._angles = self._write_angles()
            x = self._shaped("input_ids", 1, -1, config.width)
            for layer in range(config.num_layers):
                x = self._layer(x, f"decoder.layers.{layer}")
            axis = graph.small(np.array([1]))
            x = self._normed(graph.add("Slice", [x, "logits_index", graph.small(_ALL), axis]), "decoder.norm.weight")
            head = "decoder.embed_tokens.weight" if config.has_tied_head else "decoder.head.weight"
            graph.add("MatMul", [x, graph.constant("head", self._weights.exact(head).T)], outputs=["logits"])
        path = self._folder / "llm.onnx"
        graph.save(
            path,
            inputs={
                "input_ids": ("FLOAT", ("T", 1, config.width)),
                "attention_mask": ("FLOAT", (1, 1, "T", "T")),
                "position_ids": ("INT32", (1, "T")),
                "logits_index": ("INT32", (1,)),
            },
            outputs={"logits": (1, "asked", config.vocabulary_size)},
        )
        return path

    def _layer(self, x: str, name: str) -> str:
        config, graph = self._config, self._graph
        normed = self._normed(x, f"{name}.attention_norm.weight")
        query, key, value = (
            self._shaped(
                self._linear(normed, f"{name}.attention.{part}.weight", has_bias=config.has_attention_bias),
                1, -1, num_heads, config.head_dim,
            )
            for part, num_heads in (
                ("query", config.num_heads), ("key", config.num_key_value_heads), ("value", config.num_key_value_heads)
            )
        )  # fmt: skip
        inputs = [self._turned(query), self._turned(key), value, "attention_mask"]
        mixed = graph.add(_ATTENTION, inputs, domain=_DOMAIN)
        x = graph.add("Add", [x, self._linear(mixed, f"{name}.attention.output.weight")])
        normed = self._normed(x, f"{name}.feed_forward_norm.weight")
        gate = self._linear(normed, f"{name}.feed_forward.gate.weight")
        gate = graph.add("Mul", [gate, graph.add("Sigmoid", [gate])])
        product = graph.add("Mul", [gate, self._linear(normed, f"{name}.feed_forward.up.weight")])
        return graph.add("Add", [x, self._linear(product, f"{name}.feed_forward.down.weight")])

    def _linear(self, x: str, name: str, *, has_bias: bool = False) -> str:
        product = self._graph.add("MatMul", [x, self._graph.constant(name, self._weights.exact(name).T)])
        if not has_bias:
            return product
        bias = name.removesuffix("weight") + "bias"
        return self._graph.add("Add", [product, self._graph.constant(bias, self._weights.exact(bias))])

    def _normed(self, x: str, name: str) -> str:
        """Root mean square normalisation in the operators by which its converter knows it."""
        graph = self._graph
        two, axes = graph.small(np.array(2, np.float32)), graph.small(np.array([-1]))
        mean = graph.add("ReduceMean", [graph.add("Pow", [x, two]), axes], keepdims=1)
        epsilon = graph.small(np.array(self._config.norm_epsilon, np.float32))
        root = graph.add("Sqrt", [graph.add("Add", [mean, epsilon])])
        normed = graph.add("Mul", [x, graph.add("Reciprocal", [root])])
        return graph.add("Mul", [graph.constant(name, self._weights.exact(name)), normed])

    def _turned(self, x: str) -> str:
        """Queries or keys, 1 x T x heads x head_dim, turned by their positions."""
        graph, (cosine, sine) = self._graph, self._angles
        half, end = (graph.small(np.array([place])) for place in (self._config.head_dim // 2, self._config.head_dim))
        start, axis = graph.small(np.array([0])), graph.small(np.array([3]))
        low, high = graph.add("Slice", [x, start, half, axis]), graph.add("Slice", [x, half, end, axis])
        across = graph.add("Concat", [graph.add("Neg", [high]), low], axis=-1)
        return graph.add("Add", [graph.add("Mul", [x, cosine]), graph.add("Mul", [across, sine])])

    def _write_angles(self) -> tuple[str, str]:
        config, graph = self._config, self._graph
        places = self._shaped(graph.add("Cast", ["position_ids"], to=1), -1, 1)
        angles = graph.add("Mul", [places, graph.small(config.rotary_frequencies()[None])])
        angles = self._shaped(graph.add("Concat", [angles, angles], axis=-1), 1, -1, 1, config.head_dim)
        return graph.add("Cos", [angles]), graph.add("Sin", [angles])

    def _shaped(self, x: str, *shape: int) -> str:
        return self._graph.add("Reshape", [x, self._graph.small(np.array(shape))])


def _convert(graph: Path, target: Path, *, weight_bits: int | None = None) -> None:
    bits = [] if weight_bits is None else ["--weightQuantBits", str(weight_bits), "--weightQuantBlock", str(_BLOCK)]
    flags = ["--saveExternalData", "--allowCustomOp", "--transformerFuse", *bits]
    _run_converter("ONNX", graph, "--MNNModel", target, flags)


def _name_attention(model: Path, described: Path) -> None:
    """Make MNN's own attention, which holds keys and values, of the nodes that its converter has passed on."""
    _run_converter("MNN", model, "--JsonFile", described)
    graph = json.loads(described.read_text())
    nodes = [node for node in graph["oplists"] if node["type"] == "Extra" and node["main"]["type"] == _ATTENTION]
    for layer, node in enumerate(nodes):
        held = {"kv_cache": True, "layer_index": layer, "kv_shared_layer_index": -1}
        node.update(type="Attention", main_type="AttentionParam", main=held)
    described.write_text(json.dumps(graph))
    model.unlink()
    _run_converter("JSON", described, "--MNNModel", model)


def _run_converter(form: str, source: Path, kind: str, target: Path, flags: Sequence[str] = ()) -> None:
    """Convert a file. Raises GenerationError where that fails, which the converter tells by words alone."""
    said = _run([sys.executable, "-c", _CONVERTER, "-f", form, "--modelFile", str(source), kind, str(target), *flags])
    if not target.is_file():
        raise _failed(said)


def _run(command: list[str]) -> str:
    """Run a program; returns what it said. Raises GenerationError where it fails."""
    finished = run_program(command)
    if finished.returncode:
        raise _failed(finished.stdout + finished.stderr)
    return finished.stdout + finished.stderr


def _failed(said: str) -> GenerationError:
    last = one_line("".join(said.splitlines()[-1:]), max_length=300)
    return GenerationError(f"Expected MNN's files to be written, got: {last or 'nothing'}.")


if __name__ == "__main__":
    leave_when_asked()
    shape, folder, target, size_px, num_threads, weight_bits = sys.argv[1:]
    write_model(
        shape,
        Path(folder),
        Path(target),
        size_px=int(size_px),
        num_threads=int(num_threads),
        weight_bits=None if weight_bits == "32" else int(weight_bits),
    )
