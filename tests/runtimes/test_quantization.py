"""Weights and activations in fewer bits: how far from exact they may be, and that the engine takes them as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.checkpoints.arrays import Weights, to_bfloat16
from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.stored import StoredCheckpoint
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import CheckpointError, GenerationError
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.runtimes.choice import choose_runtime
from fastvlm.runtimes.openvino import decoders as decoders_module
from fastvlm.runtimes.openvino import engine as engine_module
from fastvlm.runtimes.openvino import runtime as runtime_module
from fastvlm.runtimes.openvino.calibration import calibrate, measure_ranges
from fastvlm.runtimes.openvino.decoder import DecoderGraph
from fastvlm.runtimes.openvino.encoder import EncoderGraph
from fastvlm.runtimes.openvino.engine import Engine, has_bfloat16, has_vnni
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.runtimes.quantization import (
    GROUP_SIZE,
    HALF_RANGE,
    WHOLE_RANGE,
    fits_int4,
    quantized_int4,
    quantized_int8,
)
from fastvlm.tiles import TileLayout
from support.runtimes import CONFIG, node_kinds, prompt, random_model, stored_tensors, tiles

LAYERS = CONFIG.decoder.num_layers


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredTensor]:
    return stored_tensors(random_model(), tmp_path_factory.mktemp("weights"))


def matrix(num_out: int = 9, num_in: int = 2 * GROUP_SIZE) -> np.ndarray:
    values = np.random.default_rng(3).standard_normal((num_out, num_in), dtype=np.float32)
    values[2] = 0
    values[3] *= 1e-3
    values[4, 5] = -40
    return values


def test_eight_bits_are_within_half_a_step() -> None:
    values = matrix()
    whole, scales = quantized_int8(values)
    assert whole.dtype == np.int8 and whole.shape == values.shape and scales.shape == (9,)
    assert np.abs(whole).max(1).tolist() == [127, 127, 0, *[127] * 6]
    assert (np.abs(whole * scales[:, None] - values) <= scales[:, None] * 0.501).all()


def test_half_the_range_cannot_overflow() -> None:
    """Two products of the largest unsigned input fit into sixteen bits."""
    whole, scales = quantized_int8(matrix(), largest=HALF_RANGE)
    assert np.abs(whole).max() == HALF_RANGE and 2 * 255 * HALF_RANGE < 2**15
    assert (np.abs(whole * scales[:, None] - matrix()) <= scales[:, None] * 0.501).all()


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "fma avx2 avx512_bf16", HALF_RANGE),
        ("x86_64", "fma avx2 avx512_vnni amx_int8", WHOLE_RANGE),
        ("AMD64", "avx_vnni avx2", WHOLE_RANGE),
        ("AMD64", "", HALF_RANGE),
        ("aarch64", "asimddp", WHOLE_RANGE),
    ],
)
def test_the_range_that_a_processor_bears(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, expected: int
) -> None:
    monkeypatch.setattr(engine_module.platform, "machine", lambda: machine)
    monkeypatch.setattr(engine_module, "has_instruction", lambda name: name in flags.split())
    assert engine_module.largest_weight() == expected


def test_eight_bits_of_a_kernel_and_of_bfloat16() -> None:
    kernel = to_bfloat16(matrix())[:, :, None, None]
    whole, scales = quantized_int8(kernel)
    expected, expected_scales = quantized_int8(kernel[:, :, 0, 0])
    assert np.array_equal(whole[:, :, 0, 0], expected) and np.array_equal(scales, expected_scales)


def test_four_bits_are_within_a_step_and_meet_the_farthest_number() -> None:
    values = matrix()
    packed, scales = quantized_int4(values)
    assert packed.dtype == np.uint8 and packed.shape == (9, 2, GROUP_SIZE // 2) and scales.shape == (9, 2)
    numbers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(9, 2, GROUP_SIZE).astype(np.int32) - 8
    restored = (numbers * scales[..., None]).reshape(values.shape)
    steps = np.abs(scales).repeat(GROUP_SIZE, axis=1)
    # A number as far on the other side as the farthest one is a whole step off: 8 is not among -8 ... 7.
    assert (np.abs(restored - values) <= steps * 1.001).all()
    assert (np.abs(restored - values) <= steps * 0.501).mean() > 0.97
    assert restored[4, 5] == pytest.approx(-40)
    assert not restored[2].any()


def test_inputs_that_make_no_groups_keep_eight_bits() -> None:
    assert fits_int4(matrix()) and not fits_int4(matrix(num_in=GROUP_SIZE + 2))
    assert not fits_int4(matrix()[:, :, None, None])


@pytest.mark.parametrize("weight_format", ["int8", "int4"])
def test_the_plugin_takes_the_decoders_bits_as_they_are(
    tensors: Mapping[str, StoredTensor], weight_format: WeightFormat
) -> None:
    """Were they widened, there would be nodes that convert or multiply weights, or plain products in their place."""
    graphs = DecoderGraph(CONFIG.decoder, Weights(tensors), precision="float32", weight_format=weight_format)
    engine = Engine(tensors.values(), about="", precision="float32")
    kinds = node_kinds(engine.compiled("decoder", lambda: graphs.build("fused")))
    assert kinds["FullyConnected"] == 7 * LAYERS + 1
    plain = DecoderGraph(CONFIG.decoder, Weights(tensors), precision="float32")
    expected = node_kinds(engine.compiled("decoder", lambda: plain.build("fused")))
    assert {kind: kinds[kind] for kind in ("Eltwise", "MatMul", "Convert", "RMS", "RoPE")} == {
        kind: expected[kind] for kind in ("Eltwise", "MatMul", "Convert", "RMS", "RoPE")
    }


def logits_of(runtime: OpenVINORuntime) -> np.ndarray:
    encoded = runtime.encode(tiles(TileLayout(64, 128)))
    logits, cache = runtime.prefill([runtime.embed(prompt([5, 6], (0, 2), [7]), [encoded])])
    return np.stack([logits, *(runtime.decode(np.array([number]), cache) for number in (4, 9))])


@pytest.mark.parametrize("with_vnni", [False, True])
@pytest.mark.parametrize(("weight_format", "group"), [(None, 0), ("int8", GROUP_SIZE)])
def test_inputs_are_rounded_in_groups_where_that_is_fast(
    tensors: Mapping[str, StoredTensor],
    monkeypatch: pytest.MonkeyPatch,
    weight_format: WeightFormat | None,
    group: int,
    with_vnni: bool,
) -> None:
    monkeypatch.setattr(runtime_module, "has_vnni", lambda: with_vnni)
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32", weight_format=weight_format)
    found = runtime.decoder.fused.model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")
    assert found == (group if with_vnni else 0)


@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not compute in bfloat16")
@pytest.mark.parametrize(("weight_format", "with_amx"), [(None, True), ("int8", False), ("int4", True)])
def test_inputs_that_the_plugin_rounds_are_float32(
    tensors: Mapping[str, StoredTensor],
    monkeypatch: pytest.MonkeyPatch,
    weight_format: WeightFormat | None,
    with_amx: bool,
) -> None:
    """In bfloat16 it would widen the weights instead; the form `rounded` has its inputs rounded by the graph."""
    monkeypatch.setattr(decoders_module, "has_amx_int8", lambda: with_amx)
    monkeypatch.setattr(decoders_module, "FEW_POSITIONS", 2)
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="bfloat16", weight_format=weight_format)
    first, second = (runtime.embed(prompt([*range(length)]), []) for length in (3, 30))
    runtime.resume(runtime.prefill([first])[1], second, num_kept=3)
    decoders = runtime.decoder
    assert decoders._many is not None and (decoders._head is not None) == (with_amx and weight_format is not None)
    hints = [
        graph.model.get_property("INFERENCE_PRECISION_HINT").to_string()
        for graph in (decoders.fused, decoders._many.graph)
    ]
    few, many = ("bf16" if weight_format is None else "f32"), ("f32" if weight_format and not with_amx else "bf16")
    assert hints == [few, many]


@pytest.mark.parametrize(("weight_format", "limit"), [("int8", 0.03), ("int4", 0.4)])
def test_fewer_bits_stay_near(tensors: Mapping[str, StoredTensor], weight_format: WeightFormat, limit: float) -> None:
    exact = logits_of(OpenVINORuntime(CONFIG, tensors, dtype="float32"))
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32", weight_format=weight_format)
    error = np.linalg.norm(logits_of(runtime) - exact) / np.linalg.norm(exact)
    assert runtime.name == f"openvino cpu float32 decoder {weight_format}"
    assert 0 < error < limit


def test_the_plugin_computes_rounded_inputs_in_eight_bits(tensors: Mapping[str, StoredTensor]) -> None:
    graphs = DecoderGraph(CONFIG.decoder, Weights(tensors), precision="float32", weight_format="int4")
    engine = Engine(tensors.values(), about="", precision="float32")
    compiled = engine.compiled("decoder", lambda: graphs.build("rounded"))
    assert node_kinds(compiled, precision="_i8")["FullyConnected"] == 7 * LAYERS
    kinds = node_kinds(compiled)
    assert (kinds["FullyConnected"], kinds["RMS"], kinds["RoPE"]) == (7 * LAYERS + 1, 2 * LAYERS + 1, 2 * LAYERS)
    # Queries, keys and values share their input, and the gate shares it with what it gates.
    assert kinds["Reduce"] == 4 * LAYERS


def questions(runtime: OpenVINORuntime) -> np.ndarray:
    """Rows of different lengths, a prompt behind held positions, and words after each: logits by row."""
    short, long, longer = (
        runtime.embed(prompt([*range(4), *rest]), []) for rest in ([], range(30, 41), [*range(30, 41), 8, 9, 10])
    )
    rows, cache = runtime.prefill([short, long])
    found = [rows, runtime.decode(np.array([3, 4]), cache)]
    _, cache = runtime.prefill([short])
    for each, num_kept in ((long, 4), (longer, 15)):
        logits, cache = runtime.resume(cache, each, num_kept=num_kept)
        found += [logits, runtime.decode(np.array([5]), cache)]
    # Nothing of what was read before is left.
    return np.concatenate([*found, runtime.prefill([long])[0]])


@pytest.mark.skipif(not has_vnni(), reason="without VNNI weights of the whole range overflow where inputs are rounded")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("weight_format", "limit"), [("int8", 0.05), ("int4", 0.4)])
def test_many_positions_are_read_by_the_matrix_unit(
    tensors: Mapping[str, StoredTensor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    dtype: str,
    weight_format: WeightFormat,
    limit: float,
) -> None:
    if dtype == "bfloat16" and not has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    exact = questions(OpenVINORuntime(CONFIG, tensors, dtype="float32"))
    monkeypatch.setattr(decoders_module, "has_amx_int8", lambda: True)
    monkeypatch.setattr(decoders_module, "FEW_ROUNDED", 5)

    def rounded() -> OpenVINORuntime:
        return OpenVINORuntime(CONFIG, tensors, dtype=dtype, weight_format=weight_format, cache_folder=tmp_path)

    found = questions(rounded())
    assert len(found) == len(exact) == 9
    for row, expected in zip(found, exact, strict=True):
        assert 0 < np.linalg.norm(row - expected) / np.linalg.norm(expected) < limit
    kept = sorted(path.name.rpartition("-")[0] for path in tmp_path.glob("*.blob"))
    assert kept == ["decoder-fused-body", "decoder-head", "decoder-rounded-body", "projector"]
    np.testing.assert_array_equal(questions(rounded()), found, err_msg="graphs kept from before")
    monkeypatch.setattr(decoders_module, "MAX_POSITIONS_AT_ONCE", 6)
    for row, expected in zip(questions(rounded()), exact, strict=True):
        assert np.linalg.norm(row - expected) / np.linalg.norm(expected) < limit


@pytest.mark.parametrize(("flags", "expected"), [("avx512_vnni amx_int8", True), ("avx512_vnni amx_tile", False)])
def test_a_matrix_unit_is_known_by_its_flag(monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool) -> None:
    monkeypatch.setattr(engine_module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(engine_module, "has_instruction", lambda name: name in flags.split())
    assert engine_module.has_amx_int8() is expected
    monkeypatch.setattr(engine_module.platform, "machine", lambda: "aarch64")
    assert not engine_module.has_amx_int8()


def test_ranges_are_those_of_the_inputs(tensors: Mapping[str, StoredTensor]) -> None:
    images = [tiles(TileLayout(64, 128), seed) for seed in range(3)]
    ranges = measure_ranges(CONFIG, tensors, images)
    num_blocks, mixers = CONFIG.vision.depths, CONFIG.vision.token_mixers
    num_attention = sum(depth for depth, kind in zip(num_blocks, mixers, strict=True) if kind == "attention")
    assert len(ranges) == len(num_blocks) - 1 + 2 * sum(num_blocks) + 2 * num_attention
    assert min(ranges.values()) > 0
    each = [measure_ranges(CONFIG, tensors, [image]) for image in images]
    assert ranges == pytest.approx({name: max(one[name] for one in each) for name in ranges})


def test_a_calibrated_encoder_computes_in_eight_bits(tensors: Mapping[str, StoredTensor]) -> None:
    image = tiles(TileLayout(64, 128))
    ranges = measure_ranges(CONFIG, tensors, [image])
    exact = OpenVINORuntime(CONFIG, tensors, dtype="float32").encode(image).data
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32", weight_format="int8", encoder_ranges=ranges)
    error = np.linalg.norm(runtime.encode(image).data - exact) / np.linalg.norm(exact)
    assert runtime.name == "openvino cpu float32 encoder int8 decoder int8"
    assert 0 < error < 0.1
    graphs = EncoderGraph(CONFIG.vision, Weights(tensors), precision="float32", ranges=ranges, largest_weight=63)
    engine = Engine(tensors.values(), about="", precision="float32")
    compiled = engine.compiled("encoder", lambda: graphs.build(num_tiles=1, height_px=64, width_px=128))
    kinds = node_kinds(compiled, precision="_i8")
    assert kinds["Convolution"] + kinds["FullyConnected"] == len(ranges), kinds


def test_without_a_weight_format_ranges_change_nothing(tensors: Mapping[str, StoredTensor]) -> None:
    image = tiles(TileLayout(64, 128))
    ranges = measure_ranges(CONFIG, tensors, [image])
    exact = OpenVINORuntime(CONFIG, tensors, dtype="float32").encode(image).data
    np.testing.assert_array_equal(
        OpenVINORuntime(CONFIG, tensors, dtype="float32", encoder_ranges=ranges).encode(image).data, exact
    )


def test_a_dark_picture_calibrates_too(tensors: Mapping[str, StoredTensor]) -> None:
    """Ranges of zero, of layers that were given nothing, must not divide by it."""
    ranges = dict.fromkeys(measure_ranges(CONFIG, tensors, [tiles(TileLayout(64, 64))]), 0.0)
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32", weight_format="int4", encoder_ranges=ranges)
    assert np.isfinite(runtime.encode(tiles(TileLayout(64, 64))).data).all()


def test_calibration_reads_pictures_as_the_checkpoint_wants_them(
    tensors: Mapping[str, StoredTensor], tmp_path: Path
) -> None:
    for number in range(2):
        Image.new("RGB", (90, 60), (200 * number, 40, 90)).save(tmp_path / f"{number}.png")
    config = ModelConfig(
        name="small",
        vlm=CONFIG,
        processing=ProcessingConfig(mode="fit", max_visual_tokens=8),
        template=TEMPLATES["compact"],
        eos_token_ids=(0,),
    )
    tokenizer = train_byte_level_bpe(["a b"], vocabulary_size=260, special_tokens=("<|end|>",))
    stored = StoredCheckpoint(tmp_path, "fastvlm", config, tokenizer, tensors)
    seen: list[tuple[int, int]] = []
    ranges = calibrate(stored, sorted(tmp_path.glob("*.png")), report=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)] and ranges["stages.1.patch_embedding.pointwise"] > 0
    with pytest.raises(CheckpointError, match="got none"):
        calibrate(stored, [])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"quantize": "int3"}, "int8, int4, got 'int3'"),
        ({"quantize": "int8", "device": "cuda"}, "Expected a processor for quantised weights, got cuda"),
        ({"quantize": "int4", "name": "torch"}, "got torch"),
    ],
)
def test_what_cannot_be_quantised_is_told(asked: dict[str, str], words: str) -> None:
    given = {"name": "auto", "device": "auto", "dtype": "auto", "config": CONFIG, **asked}
    with pytest.raises(GenerationError, match=words):
        choose_runtime(given.pop("name"), **given)  # type: ignore[arg-type]


def test_quantised_weights_choose_openvino() -> None:
    assert choose_runtime("auto", device="auto", dtype="auto", config=CONFIG, quantize="int4") == "openvino"
