"""What only the OpenVINO runtime has: fused graphs, compiled forms on disk, precisions, and checks of the weights."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastvlm import machine
from fastvlm.checkpoints.arrays import Weights, to_bfloat16, to_float32
from fastvlm.checkpoints.strict import COUNTER, fused_shapes
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import CheckpointError, GenerationError
from fastvlm.models.config import VLMConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.openvino import decoders as decoders_module
from fastvlm.runtimes.openvino import engine as engine_module
from fastvlm.runtimes.openvino.decoder import DecoderForm, DecoderGraph
from fastvlm.runtimes.openvino.encoder import EncoderGraph
from fastvlm.runtimes.openvino.engine import Engine
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime
from fastvlm.runtimes.torch import TorchRuntime
from fastvlm.tiles import TileLayout
from support.runtimes import CONFIG, greedy, node_kinds, prompt, random_model, stored_tensors, tiles

LAYERS, VISION = CONFIG.decoder.num_layers, CONFIG.vision


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredTensor]:
    return stored_tensors(random_model(), tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("form", ["fused", "plain"])
def test_the_plugin_fuses_the_decoder(tensors: Mapping[str, StoredTensor], form: DecoderForm) -> None:
    graphs = DecoderGraph(CONFIG.decoder, Weights(tensors), precision="float32")
    engine = Engine(tensors.values(), about="", precision="float32")
    kinds = node_kinds(engine.compiled("decoder", lambda: graphs.build(form)))
    assert kinds["RMS"] == 2 * LAYERS + 1
    assert kinds["RoPE"] == 2 * LAYERS
    assert kinds["FullyConnected"] == 7 * LAYERS + 1
    # Only with its cache in place is attention one node; in the form `plain` it is products.
    assert kinds["ScaledDotProductAttention"] == (LAYERS if form == "fused" else 0)


def test_the_plugin_fuses_the_encoder(tensors: Mapping[str, StoredTensor]) -> None:
    graphs = EncoderGraph(CONFIG.vision, Weights(tensors), precision="float32")
    engine = Engine(tensors.values(), about="", precision="float32")
    kinds = node_kinds(engine.compiled("encoder", lambda: graphs.build(num_tiles=1, height_px=128, width_px=192)))
    # Biases, activations and sums are part of the convolutions: nothing of them is left but squeeze-excite's product.
    kinds_of_stages = zip(VISION.depths, VISION.token_mixers, strict=True)
    num_mixers = sum(depth for depth, kind in kinds_of_stages if kind == "repmixer")
    num_multiplied = sum(wide // narrow for narrow, wide in pairwise(VISION.widths))
    expected = 3 + num_mixers + 3 * sum(VISION.depths) + num_multiplied + len(VISION.depths) - 1
    expected += VISION.token_mixers.count("attention") + int(VISION.expansion_ratio) + 2
    assert kinds["Convolution"] == expected, kinds
    # Biases, activations and sums are part of the convolutions; nothing is left but the product of squeeze-excite.
    assert kinds["Eltwise"] + kinds["Math"] <= 4, kinds


@pytest.mark.parametrize("multi_scale", ["none", "average", "depthwise"])
def test_the_encoder_equals_torch_in_each_form_of_aggregation(multi_scale: str, tmp_path: Path) -> None:
    config = replace(CONFIG, vision=replace(CONFIG.vision, multi_scale=multi_scale))
    model = random_model(config).eval()
    image = tiles(TileLayout(128, 192))
    got = OpenVINORuntime(config, stored_tensors(model, tmp_path), dtype="float32").encode(image)
    np.testing.assert_allclose(got.data, TorchRuntime(model, device="cpu").encode(image).data, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (128, 64), (128, 128), (192, 64), (128, 192)])
def test_maps_of_as_many_positions_as_heads_are_right(
    tensors: Mapping[str, StoredTensor], size: tuple[int, int]
) -> None:
    """The plugin's own mistake, for attention cut from one transposed tensor; here 1 or 2 heads, 1 to 6 positions."""
    image = tiles(TileLayout(*size))
    got = OpenVINORuntime(CONFIG, tensors, dtype="float32").encode(image)
    expected = TorchRuntime(random_model(), device="cpu").encode(image)
    np.testing.assert_allclose(got.data, expected.data, atol=1e-4)


def test_sizes_beyond_the_first_few_share_one_graph(tensors: Mapping[str, StoredTensor]) -> None:
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    expected = TorchRuntime(random_model(), device="cpu")
    for size in ((64, 64), (64, 192), (128, 128), (192, 128), (64, 128)):
        image = tiles(TileLayout(*size))
        np.testing.assert_allclose(runtime.encode(image).data, expected.encode(image).data, atol=1e-4)
    assert len(runtime._encoders) == 3


def test_a_graph_that_was_prepared_is_the_one_that_encodes(tensors: Mapping[str, StoredTensor]) -> None:
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    image = tiles(TileLayout(64, 192))
    runtime.prepare(image.layout)
    assert runtime._preparing is not None
    runtime._preparing[1].join()
    prepared = runtime._prepared
    assert prepared is not None and prepared[0] == (1, 64, 192) and not runtime._encoders
    phases: list[str] = []
    got = runtime.encode(image, note=phases.append)
    assert runtime._encoders == dict([prepared]) and phases == ["encode", "encode", "project"]
    np.testing.assert_allclose(got.data, TorchRuntime(random_model(), device="cpu").encode(image).data, atol=1e-4)
    runtime.prepare(image.layout)
    assert runtime._prepared is None  # it is there already


def test_waiting_for_what_is_prepared_is_compiling(
    tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    begun, may_go_on = threading.Event(), threading.Event()
    make = runtime._made

    def slowly(*size: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert may_go_on.wait(30)
        return make(*size)

    monkeypatch.setattr(runtime, "_made", slowly)
    image = tiles(TileLayout(64, 64))
    runtime.prepare(image.layout)
    assert begun.wait(30)
    threading.Timer(0.2, may_go_on.set).start()
    phases: list[str] = []
    runtime.encode(image, note=phases.append)
    assert phases == ["compile", "encode", "project"]


def test_what_fails_while_it_is_prepared_is_told_when_it_is_needed(
    tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")

    def fail(*_size: Any) -> Any:
        raise CheckpointError("Expected memory, got none.")

    monkeypatch.setattr(runtime, "_made", fail)
    image = tiles(TileLayout(64, 64))
    runtime.prepare(image.layout)
    with pytest.raises(CheckpointError, match="got none"):
        runtime.encode(image)


def test_biases_and_heads_of_a_llama(tmp_path: Path) -> None:
    decoder = replace(CONFIG.decoder, has_attention_bias=False, has_tied_head=False, num_key_value_heads=4)
    config = replace(CONFIG, decoder=decoder)
    model = random_model(config).eval()
    engines = (
        TorchRuntime(model, device="cpu"),
        OpenVINORuntime(config, stored_tensors(model, tmp_path), dtype="float32"),
    )
    answers = [greedy(engine, [engine.embed(prompt([5, 6, 7]), [])], num_tokens=32) for engine in engines]
    np.testing.assert_array_equal(*answers)
    assert len(np.unique(answers[0])) > 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_are_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_model().eval().to(dtype)
    engine = OpenVINORuntime(CONFIG, stored_tensors(model, tmp_path), dtype="float32")
    twin = TorchRuntime(model, device="cpu", dtype="float32")
    image = tiles(TileLayout(64, 128))
    logits = []
    for runtime in (engine, twin):
        embeddings = runtime.embed(prompt([5, 6], (0, 2), [7]), [runtime.encode(image)])
        logits.append(runtime.prefill([embeddings])[0])
    np.testing.assert_allclose(*logits, atol=1e-3)


def test_bits_of_bfloat16_round_as_torch_does() -> None:
    values = np.concatenate([np.random.default_rng(0).standard_normal(5000), [0.0, -0.0, 1e38, 3e-39, 1.00390625]])
    values = values.astype(np.float32)
    rounded = torch.from_numpy(values).bfloat16()
    np.testing.assert_array_equal(to_float32(to_bfloat16(values)), rounded.float().numpy())


def test_caches_live_side_by_side(tensors: Mapping[str, StoredTensor]) -> None:
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    first, second = (runtime.embed(prompt(ids), []) for ids in ([5, 6, 7], [30, 31]))
    alone = [greedy(runtime, [one], num_tokens=8) for one in (first, second)]
    caches = [runtime.prefill([one]) for one in (first, second)]
    answers = [[logits.argmax(-1)] for logits, _ in caches]
    for _ in range(7):
        for answer, (_, cache) in zip(answers, caches, strict=True):
            answer.append(runtime.decode(answer[-1], cache).argmax(-1))
    np.testing.assert_array_equal(np.stack(answers)[:, :, 0], np.concatenate(alone))


def compiled_files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.blob")}


def answer_of(runtime: OpenVINORuntime) -> list[int]:
    encoded = runtime.encode(tiles(TileLayout(64, 128)))
    return greedy(runtime, [runtime.embed(prompt([5], (0, 2), [7]), [encoded])], num_tokens=8)[0].tolist()


def test_compiled_graphs_are_kept_and_taken_again(tensors: Mapping[str, StoredTensor], tmp_path: Path) -> None:
    cold = answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path))
    kept = compiled_files(tmp_path)
    assert len(kept) == 3
    assert answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path)) == cold
    assert compiled_files(tmp_path) == kept


@pytest.mark.parametrize("damage", [lambda blob: blob[:100], lambda blob: b"", lambda blob: b"\0" * len(blob)])
def test_damaged_compiled_graphs_are_made_anew(
    tensors: Mapping[str, StoredTensor], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    cold = answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path))
    for path in tmp_path.glob("*.blob"):
        path.write_bytes(damage(path.read_bytes()))
    assert answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path)) == cold
    assert all(path.stat().st_size > 200 for path in tmp_path.glob("*.blob"))


def test_a_cache_that_cannot_be_written_is_done_without(
    tensors: Mapping[str, StoredTensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path / "file"))
    assert "Cannot keep a compiled graph" in caplog.text


def test_other_weights_take_no_graph_of_these(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    answers = []
    for folder, factor in ((first, 1.0), (second, -1.0)):
        folder.mkdir()
        model = random_model()
        with torch.no_grad():
            model.decoder.norm.weight.mul_(factor)
        runtime = OpenVINORuntime(
            CONFIG, stored_tensors(model, folder), dtype="float32", cache_folder=tmp_path / "kept"
        )
        answers.append(answer_of(runtime))
    assert answers[0] != answers[1]
    assert len(compiled_files(tmp_path / "kept")) == 6


def test_another_configuration_takes_no_graph_of_this_one(tensors: Mapping[str, StoredTensor], tmp_path: Path) -> None:
    answers = []
    for theta in (10_000.0, 100.0):
        config = replace(CONFIG, decoder=replace(CONFIG.decoder, rope_theta=theta))
        answers.append(answer_of(OpenVINORuntime(config, tensors, dtype="float32", cache_folder=tmp_path)))
    assert answers[0] != answers[1]
    assert len(compiled_files(tmp_path)) == 6


def test_the_cache_keeps_what_was_used_last(
    tensors: Mapping[str, StoredTensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MAX_CACHE_BYTES", 1)
    monkeypatch.setattr(machine, "_GRAPHS_OF_A_MODEL", 0.0)
    answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path))
    assert len(compiled_files(tmp_path)) == 1, "what came last"


@pytest.mark.skipif(not engine_module.has_bfloat16(), reason="this processor does not compute in bfloat16")
def test_bfloat16_stays_near_float32(tensors: Mapping[str, StoredTensor], tmp_path: Path) -> None:
    logits = []
    for dtype in ("float32", "bfloat16"):
        runtime = OpenVINORuntime(CONFIG, tensors, dtype=dtype, cache_folder=tmp_path)
        encoded = runtime.encode(tiles(TileLayout(64, 128)))
        first, cache = runtime.prefill([runtime.embed(prompt([5, 6], (0, 2), [7]), [encoded])])
        logits.append(np.concatenate([first, runtime.decode(np.array([9]), cache)]).ravel())
    assert np.dot(*logits) / np.linalg.norm(logits[0]) / np.linalg.norm(logits[1]) > 0.99


def changed(tensors: Mapping[str, StoredTensor], config: VLMConfig = CONFIG) -> OpenVINORuntime:
    return OpenVINORuntime(config, tensors, dtype="float32")


def test_missing_unexpected_and_misshaped_tensors_are_named(tensors: Mapping[str, StoredTensor]) -> None:
    name = "decoder.layers.1.feed_forward.up.weight"
    missing = {key: tensor for key, tensor in tensors.items() if key != name}
    with pytest.raises(CheckpointError, match=f"1 are missing: {name}"):
        changed(missing)
    extra = replace(tensors[name], name="decoder.extra.weight")
    with pytest.raises(CheckpointError, match=r"Expected no tensors .* got decoder\.extra\.weight"):
        changed({**tensors, "decoder.extra.weight": extra})
    with pytest.raises(CheckpointError, match=rf"got {name} \[32\] instead of \[48, 32\]"):
        changed({**tensors, name: replace(tensors["decoder.norm.weight"], name=name)})


@pytest.mark.parametrize("multi_scale", ["none", "average", "depthwise"])
@pytest.mark.parametrize("is_llama", [False, True])
def test_the_tensors_that_are_asked_for_are_those_of_the_model(multi_scale: str, is_llama: bool) -> None:
    config = replace(
        CONFIG,
        vision=replace(CONFIG.vision, multi_scale=multi_scale),
        decoder=replace(CONFIG.decoder, has_attention_bias=not is_llama, has_tied_head=not is_llama),
    )
    state = FastVLM(config).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(COUNTER)}
    assert fused_shapes(config) == expected


def test_a_configuration_that_describes_no_model_is_told(tensors: Mapping[str, StoredTensor]) -> None:
    with pytest.raises(CheckpointError, match="to describe a model"):
        changed(tensors, replace(CONFIG, vision=replace(CONFIG.vision, depths=(1, 1, 1))))


def test_a_graph_that_cannot_be_built_is_told_in_one_line() -> None:
    def broken() -> None:
        raise RuntimeError("heads do not\nfit")

    with pytest.raises(CheckpointError, match=r"can compile \(decoder-plain\), got: heads do not fit\. Check config"):
        Engine([], about="").compiled("decoder-plain", broken)


def test_an_encoder_in_the_form_of_training_is_refused(tensors: Mapping[str, StoredTensor]) -> None:
    with pytest.raises(CheckpointError, match=r"Expected an encoder in its fused form.*fastvlm convert"):
        changed(tensors, replace(CONFIG, vision=replace(CONFIG.vision, form="train")))


def test_precisions_have_names(tensors: Mapping[str, StoredTensor]) -> None:
    for name in ("float16", "int3"):
        with pytest.raises(GenerationError, match=f"auto, float32, bfloat16 in OpenVINO, got '{name}'"):
            OpenVINORuntime(CONFIG, tensors, dtype=name)
    with pytest.raises(GenerationError, match="at least 1 thread, got 0"):
        OpenVINORuntime(CONFIG, tensors, num_threads=0)
    assert OpenVINORuntime(CONFIG, tensors).name in ("openvino cpu float32", "openvino cpu bfloat16")


def test_a_processor_without_bfloat16_computes_in_float32(
    tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "has_bfloat16", lambda: False)
    assert OpenVINORuntime(CONFIG, tensors).name == "openvino cpu float32"
    with pytest.raises(GenerationError, match="computes in bfloat16 for OpenVINO, this one does not"):
        OpenVINORuntime(CONFIG, tensors, dtype="bfloat16")


def test_the_graph_for_any_size_takes_no_place_of_a_fixed_one(tensors: Mapping[str, StoredTensor]) -> None:
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    runtime.encode(tiles(TileLayout(64, 64, grid_rows=2)))
    for columns in (1, 2, 3):
        runtime.encode(tiles(TileLayout(64, 64 * columns)))
    assert set(runtime._encoders) == {(-1, -1, -1), (1, 64, 64), (1, 64, 128)}


def test_a_signal_after_many_engines_does_no_harm() -> None:
    """In a process of its own: the plugin's stack for signal handlers must still be there."""
    program = """
import gc, os, signal
from fastvlm.runtimes.openvino.engine import Engine
import openvino as ov
from openvino import opset15 as ops

def build():
    x = ops.parameter([1, 4], ov.Type.f32)
    return ov.Model([ops.result(ops.relu(x))], [x], "relu")

compiled = [Engine([], about="").compiled("relu", build) for _ in range(2)]
while compiled:
    del compiled[0]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop", flush=True))
os.kill(os.getpid(), signal.SIGTERM)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "asked to stop\n"), finished.stderr


@pytest.mark.parametrize("few", [0, 100])
def test_a_long_prompt_is_read_in_pieces(
    tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Rows of different lengths, padded on the left, some of whose pieces are nothing but padding; in both decoders."""
    monkeypatch.setattr(decoders_module, "FEW_POSITIONS", few)
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    rows = [runtime.embed(prompt(list(range(length))), []) for length in (23, 4, 11)]
    whole, whole_cache = runtime.prefill(rows)
    monkeypatch.setattr(decoders_module, "MAX_POSITIONS_AT_ONCE", 5)
    pieces, cache = runtime.prefill(rows)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    token_ids = whole.argmax(-1)
    np.testing.assert_allclose(runtime.decode(token_ids, cache), runtime.decode(token_ids, whole_cache), atol=1e-5)


@pytest.mark.parametrize("few", [0, 100])
def test_what_follows_a_kept_prompt_is_read_in_pieces_too(
    tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(decoders_module, "FEW_POSITIONS", few)
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    first, second = (runtime.embed(prompt([*range(6), *rest]), []) for rest in ([8, 9], range(30, 47)))
    expected, _ = runtime.prefill([second])
    _, cache = runtime.prefill([first])
    monkeypatch.setattr(decoders_module, "MAX_POSITIONS_AT_ONCE", 5)
    found, _ = runtime.resume(cache, second, num_kept=6)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_second_decoder_is_made_when_many_positions_come_behind_held_ones(
    tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders_module, "FEW_POSITIONS", 4)
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    first, few, many = (runtime.embed(prompt([*range(9), *rest]), []) for rest in ([], [11, 12, 13], range(20, 32)))
    for longer, has_second in ((few, False), (many, True)):
        expected, expected_cache = runtime.prefill([longer])
        _, cache = runtime.prefill([first])
        compiled_ms = runtime.compile_ms
        found, cache = runtime.resume(cache, longer, num_kept=9)
        assert (runtime.decoder._many is not None, runtime.compile_ms > compiled_ms) == (has_second, has_second)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        next_id = np.array([3])
        np.testing.assert_allclose(runtime.decode(next_id, cache), runtime.decode(next_id, expected_cache), atol=1e-5)


def test_a_position_that_an_interrupted_step_left_is_dropped(tensors: Mapping[str, StoredTensor]) -> None:
    """Ctrl-C may fall between the engine's step and the note that there was one."""
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32")
    first, second = (runtime.embed(prompt([*range(9), *rest]), []) for rest in ([], [11, 12, 13]))
    expected, _ = runtime.prefill([second])
    _, cache = runtime.prefill([first])
    is_word = cache.is_word
    runtime.decode(np.array([3]), cache)
    cache.is_word = is_word
    found, _ = runtime.resume(cache, second, num_kept=cache.num_positions)
    np.testing.assert_allclose(found, expected, atol=1e-5)
