"""What only the torch runtime has: devices, precisions, threads, and weights that change under it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fastvlm.errors import GenerationError
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.protocol import Runtime
from fastvlm.runtimes.torch import TorchRuntime, choose_device, choose_dtype
from fastvlm.tiles import TileLayout
from support.runtimes import CONFIG, greedy, prompt, random_model, tiles


@pytest.fixture(scope="module")
def runtime() -> TorchRuntime:
    return TorchRuntime(random_model(), device="cpu")


def test_the_runtime_has_what_the_protocol_asks(runtime: TorchRuntime) -> None:
    served: Runtime = runtime
    assert served.name == "torch cpu float32"
    assert served.max_positions == 128


def test_pitfall_b15_float16_that_overflows_is_refused_and_bfloat16_is_not() -> None:
    def large() -> FastVLM:
        model = random_model()
        with torch.no_grad():
            model.projector.linear_2.bias.fill_(1e5)
        return model

    image = tiles(TileLayout(64, 64))
    with pytest.raises(GenerationError, match=r"finite visual tokens.*torch cpu float16; use bfloat16 or float32"):
        TorchRuntime(large(), device="cpu", dtype="float16").encode(image)
    assert TorchRuntime(large(), device="cpu", dtype="bfloat16").encode(image).num_tokens == 1


def test_pitfall_b19_the_encoder_computes_in_the_precision_that_was_asked_for() -> None:
    runtime = TorchRuntime(random_model(), device="cpu", dtype="bfloat16")
    seen: set[torch.dtype] = set()
    for module in runtime.model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    encoded = runtime.encode(tiles(TileLayout(64, 64)))
    greedy(runtime, [runtime.embed(prompt([5], (0, 1)), [encoded])], num_tokens=2)
    assert seen == {torch.bfloat16}
    assert runtime.name == "torch cpu bfloat16"


def test_bfloat16_logits_stay_near_float32(runtime: TorchRuntime) -> None:
    rounded = TorchRuntime(random_model(), device="cpu", dtype="bfloat16")
    both = []
    for engine in (runtime, rounded):
        encoded = engine.encode(tiles(TileLayout(64, 128)))
        both.append(engine.prefill([engine.embed(prompt([5, 6], (0, 2), [7]), [encoded])])[0][0])
    cosine = both[0] @ both[1] / np.linalg.norm(both[0]) / np.linalg.norm(both[1])
    assert cosine > 0.99
    assert both[1].dtype == np.float32


def test_a_model_in_training_mode_answers_in_evaluation_mode() -> None:
    config = replace(CONFIG, vision=replace(CONFIG.vision, form="train"))
    runtime = TorchRuntime(random_model(config).train(), device="cpu")
    before = {name: buffer.clone() for name, buffer in runtime.model.named_buffers()}
    first = runtime.encode(tiles(TileLayout(64, 64)))
    assert torch.equal(first.data, runtime.encode(tiles(TileLayout(64, 64))).data)
    assert all(torch.equal(buffer, before[name]) for name, buffer in runtime.model.named_buffers())


def test_devices_and_precisions_have_names() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    assert choose_dtype("auto", torch.device("cpu")) is torch.float32
    assert choose_dtype("float16", torch.device("cpu")) is torch.float16
    for unknown in ("tpu", "cuda:99", "cuda:x", ""):
        with pytest.raises(GenerationError, match=f"a device that this machine has .*cpu.*got '{unknown}'"):
            choose_device(unknown)
    with pytest.raises(GenerationError, match="auto, float32, bfloat16, float16, got 'int3'"):
        choose_dtype("int3", torch.device("cpu"))
    with pytest.raises(GenerationError, match="at least 1 thread, got 0"):
        TorchRuntime(random_model(), device="cpu", num_threads=0)


def test_threads_are_set_when_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        TorchRuntime(random_model(), device="cpu", num_threads=before + 1)
        assert torch.get_num_threads() == before + 1
        TorchRuntime(random_model(), device="cpu")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_cuda_answers_as_the_cpu_does(runtime: TorchRuntime) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_gpu = TorchRuntime(random_model(), device="cuda", dtype="float32")
    answers = []
    for engine in (runtime, on_gpu):
        encoded = engine.encode(tiles(TileLayout(64, 128)))
        prompts = [engine.embed(prompt([5, 6], (0, 2), [7]), [encoded]), engine.embed(prompt([8]), [])]
        answers.append(greedy(engine, prompts, num_tokens=16))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert TorchRuntime(random_model(), device="cuda").name == "torch cuda bfloat16"
