"""The torch runtime against the plain model, and batches against single prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvlm.batches import Int64Array, PixelTiles, PromptTokens, VisualTokens
from fastvlm.errors import GenerationError, PromptError
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.protocol import Embeddings, Runtime
from fastvlm.runtimes.torch import TorchRuntime, choose_device, choose_dtype
from fastvlm.tiles import TileLayout

CONFIG = VLMConfig(
    vision=FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 32, 64), layer_scale_init=0.1),
    decoder=DecoderConfig(
        vocabulary_size=97,
        width=32,
        num_layers=3,
        num_heads=4,
        num_key_value_heads=2,
        feed_forward_width=48,
        head_dim=8,
        max_positions=128,
        rope_theta=10_000.0,
    ),
)


def random_model(config: VLMConfig = CONFIG) -> FastVLM:
    """Weights that keep activations near one, so that pictures matter and greedy answers vary."""
    torch.manual_seed(1)
    model = FastVLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "scale" not in name:
                fan_in = 4 if "embed_tokens" in name else parameter[0].numel()
                parameter.normal_(std=((3 if "vision" in name else 1.5) / fan_in) ** 0.5)
    return model


@pytest.fixture(scope="module")
def runtime() -> TorchRuntime:
    return TorchRuntime(random_model(), device="cpu")


def tiles(layout: TileLayout, seed: int = 0) -> PixelTiles:
    shape = (layout.num_tiles, 3, layout.tile_height_px, layout.tile_width_px)
    return PixelTiles(np.random.default_rng(seed).random(shape, dtype=np.float32), layout)


def prompt(*pieces: list[int] | tuple[int, int]) -> PromptTokens:
    """Lists are ids; a pair is an image's number and how many slots it gets."""
    token_ids: list[int] = []
    image_index: list[int] = []
    for piece in pieces:
        if isinstance(piece, list):
            token_ids += piece
            image_index += [-1] * len(piece)
        else:
            token_ids += [0] * piece[1]
            image_index += [piece[0]] * piece[1]
    return PromptTokens(
        np.array(token_ids, dtype=np.int64), np.array(image_index, dtype=np.int64), np.zeros(len(token_ids), dtype=bool)
    )


def greedy(runtime: Runtime, embeddings: list[Embeddings], *, num_tokens: int) -> Int64Array:
    """Answers of B prompts as one batch: B x num_tokens."""
    logits, cache = runtime.prefill(embeddings)
    answers = [logits.argmax(-1)]
    while len(answers) < num_tokens:
        answers.append(runtime.decode(answers[-1], cache).argmax(-1))
    return np.stack(answers, axis=1)


def test_the_runtime_has_what_the_protocol_asks(runtime: TorchRuntime) -> None:
    served: Runtime = runtime
    assert served.name == "torch cpu float32"
    assert served.max_positions == 128


def test_encode_puts_all_tiles_in_one_row_of_tokens(runtime: TorchRuntime) -> None:
    layout = TileLayout(64, 128, grid_rows=2, grid_columns=2, has_overview=True)
    image = tiles(layout)
    encoded = runtime.encode(image)
    assert encoded.num_tokens == layout.num_visual_tokens == 10
    with torch.no_grad():
        alone = [runtime.model.encode(torch.from_numpy(tile[None])) for tile in image.pixels]
    torch.testing.assert_close(encoded.data, torch.cat(alone, dim=1)[0], atol=1e-4, rtol=1e-4)
    assert encoded.data.std(0).mean() > 0.01, "tokens that are all alike would prove nothing"


@torch.no_grad()
def test_prefill_and_decode_equal_the_plain_model(runtime: TorchRuntime) -> None:
    image = tiles(TileLayout(128, 128))
    encoded = runtime.encode(image)
    question = prompt([5, 6], (0, 4), [7, 8, 9])
    logits, cache = runtime.prefill([runtime.embed(question, [encoded])])
    following = np.array([[11, 12, 13]])
    stepped = [logits]
    stepped += [runtime.decode(following[:, step], cache) for step in range(3)]
    token_ids = torch.from_numpy(np.concatenate([question.token_ids[None], following], axis=1))
    is_visual = torch.zeros(1, 12, dtype=torch.bool)
    is_visual[0, 2:6] = True
    visual_tokens = runtime.model.encode(torch.from_numpy(image.pixels)).flatten(0, 1)
    positions = torch.arange(12)[None]
    whole = runtime.model(visual_tokens, token_ids=token_ids, is_visual=is_visual, positions=positions)
    np.testing.assert_allclose(np.concatenate(stepped), whole[0, -4:].numpy(), atol=1e-4)
    assert stepped[0].dtype == np.float32
    assert cache.num_positions == 12


def test_pitfall_b9_batched_left_padded_answers_equal_single_ones_over_64_tokens(runtime: TorchRuntime) -> None:
    encoded = runtime.encode(tiles(TileLayout(64, 192)))
    embeddings = [
        runtime.embed(prompt([5, 6], (0, 3), [7]), [encoded]),
        runtime.embed(prompt([1]), []),
        runtime.embed(prompt([30, 31, 32, 33, 34, 35, 36, 37, 38, 39], (0, 3), [40, 41]), [encoded]),
        runtime.embed(prompt((0, 3), [9, 9, 9]), [encoded]),
    ]
    together = greedy(runtime, embeddings, num_tokens=64)
    alone = np.concatenate([greedy(runtime, [one], num_tokens=64) for one in embeddings])
    np.testing.assert_array_equal(together, alone)
    assert len(np.unique(alone)) > 10, "answers of few words would prove little"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_batched_logits_equal_single_ones_for_any_lengths(lengths: list[int]) -> None:
    runtime = TorchRuntime(random_model(), device="cpu")
    generator = np.random.default_rng(sum(lengths))
    prompts = [runtime.embed(prompt(generator.integers(0, 97, length).tolist()), []) for length in lengths]
    logits, cache = runtime.prefill(prompts)
    following = generator.integers(0, 97, len(lengths))
    decoded = runtime.decode(following, cache)
    for row, one in enumerate(prompts):
        single_logits, single_cache = runtime.prefill([one])
        np.testing.assert_allclose(logits[row], single_logits[0], atol=1e-4)
        np.testing.assert_allclose(decoded[row], runtime.decode(following[row : row + 1], single_cache)[0], atol=1e-4)


def test_pitfall_b20_each_image_stands_in_its_own_slots(runtime: TorchRuntime) -> None:
    first, second = runtime.encode(tiles(TileLayout(64, 128), 1)), runtime.encode(tiles(TileLayout(128, 128), 2))
    embedded = runtime.embed(prompt([5], (0, 2), [6, 7], (1, 4), [8]), [first, second])
    swapped = runtime.embed(prompt([5], (1, 4), [6, 7], (0, 2), [8]), [first, second])
    words = runtime.embed(prompt([5, 6, 7, 8]), [])
    assert embedded.num_positions == 10
    expected = [words.data[:1], first.data, words.data[1:3], second.data, words.data[3:]]
    assert torch.equal(embedded.data, torch.cat(expected))
    expected = [words.data[:1], second.data, words.data[1:3], first.data, words.data[3:]]
    assert torch.equal(swapped.data, torch.cat(expected))


@pytest.mark.parametrize(
    ("asked", "num_images", "message"),
    [
        (prompt([5], (0, 2)), 0, "Expected 1 images, as the prompt asks for, got 0"),
        (prompt([5], (0, 2)), 2, "Expected 0 visual tokens for image 2, as the prompt has slots, got 2"),
        (prompt([5], (0, 3)), 1, "Expected 3 visual tokens for image 1, as the prompt has slots, got 2"),
        (prompt([5]), 1, "Expected 0 visual tokens for image 1, as the prompt has slots, got 2"),
        (prompt([5], (0, 1), (1, 3)), 2, "Expected 1 visual tokens for image 1, as the prompt has slots, got 2"),
    ],
)
def test_pitfall_b8_images_must_fill_their_slots(
    runtime: TorchRuntime, asked: PromptTokens, num_images: int, message: str
) -> None:
    images = [runtime.encode(tiles(TileLayout(64, 128), seed)) for seed in range(num_images)]
    with pytest.raises(PromptError, match=message):
        runtime.embed(asked, images)


def test_pitfall_b26_ids_outside_the_vocabulary_are_refused_and_sentinels_in_slots_are_not_looked_up(
    runtime: TorchRuntime,
) -> None:
    for outside in (-200, 97):
        with pytest.raises(PromptError, match=f"from 0 to 96, got {outside}"):
            runtime.embed(prompt([5, outside]), [])
    encoded = runtime.encode(tiles(TileLayout(64, 128)))
    question = prompt([5], (0, 2))
    with_sentinel = replace(question, token_ids=np.array([5, -200, -200]))
    assert torch.equal(runtime.embed(with_sentinel, [encoded]).data, runtime.embed(question, [encoded]).data)


def test_prompts_that_cannot_be_read_are_refused(runtime: TorchRuntime) -> None:
    with pytest.raises(PromptError, match="at least one prompt"):
        runtime.prefill([])
    with pytest.raises(PromptError, match="at least one prompt of at least one token"):
        runtime.prefill([runtime.embed(prompt([]), [])])
    with pytest.raises(PromptError, match="fewer than 128 tokens, the model's context, got 128"):
        runtime.prefill([runtime.embed(prompt([1] * 128), [])])
    with pytest.raises(PromptError, match=r"Expected pixels of shape \(1, 3, 64, 64\).*got \(1, 3, 64, 128\)"):
        runtime.encode(replace(tiles(TileLayout(64, 128)), layout=TileLayout(64, 64)))


def test_an_answer_ends_where_the_context_does(runtime: TorchRuntime) -> None:
    logits, cache = runtime.prefill([runtime.embed(prompt([1] * 126), [])])
    for _ in range(2):
        logits = runtime.decode(logits.argmax(-1), cache)
    assert cache.num_positions == 128
    with pytest.raises(GenerationError, match="at most 128 tokens, the model's context, got 129"):
        runtime.decode(logits.argmax(-1), cache)
    with pytest.raises(GenerationError, match="one token for each of 1 rows"):
        runtime.decode(np.array([1, 2]), cache)


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


def test_undefined_pixels_are_refused(runtime: TorchRuntime) -> None:
    image = tiles(TileLayout(64, 64))
    image.pixels[0, 0, 0, 0] = np.nan
    with pytest.raises(GenerationError, match="finite visual tokens"):
        runtime.encode(image)


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


def test_read_only_pixels_and_ids_are_read_without_a_warning(
    runtime: TorchRuntime, recwarn: pytest.WarningsRecorder
) -> None:
    image = tiles(TileLayout(64, 64))
    image.pixels.setflags(write=False)
    expected = runtime.encode(tiles(TileLayout(64, 64)))
    assert torch.equal(runtime.encode(image).data, expected.data)
    assert [str(warning.message) for warning in recwarn] == []


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


def test_encoded_images_serve_many_questions(runtime: TorchRuntime) -> None:
    encoded = runtime.encode(tiles(TileLayout(64, 128)))
    assert isinstance(encoded, VisualTokens)
    before = encoded.data.clone()
    for question in ([7], [8, 9]):
        greedy(runtime, [runtime.embed(prompt([5], (0, 2), question), [encoded])], num_tokens=3)
    assert torch.equal(encoded.data, before)


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
