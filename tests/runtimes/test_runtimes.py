"""What every runtime does: the numbers of the plain model, batches that equal single prompts, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastvlm.batches import PromptTokens, VisualTokens
from fastvlm.errors import GenerationError, PromptError
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime
from fastvlm.runtimes.protocol import Runtime
from fastvlm.runtimes.torch import TorchRuntime
from fastvlm.tiles import TileLayout
from support.runtimes import CONFIG, greedy, prompt, random_model, stored_tensors, tiles


@pytest.fixture(scope="module")
def model() -> FastVLM:
    return random_model().eval()


@pytest.fixture(scope="module", params=["torch", "openvino"])
def runtime(request: pytest.FixtureRequest, model: FastVLM, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    if request.param == "torch":
        return TorchRuntime(model, device="cpu")
    return OpenVINORuntime(CONFIG, stored_tensors(model, tmp_path_factory.mktemp("weights")), dtype="float32")


def test_encode_puts_all_tiles_in_one_row_of_tokens(runtime: Runtime, model: FastVLM) -> None:
    layout = TileLayout(64, 128, grid_rows=2, grid_columns=2, has_overview=True)
    image = tiles(layout)
    encoded = runtime.encode(image)
    assert encoded.num_tokens == layout.num_visual_tokens == 10
    with torch.no_grad():
        alone = [model.encode(torch.from_numpy(tile[None])) for tile in image.pixels]
    np.testing.assert_allclose(encoded.data, torch.cat(alone, dim=1)[0], atol=1e-4, rtol=1e-4)
    assert np.asarray(encoded.data).std(0).mean() > 0.01, "tokens that are all alike would prove nothing"


@torch.no_grad()
def test_prefill_and_decode_equal_the_plain_model(runtime: Runtime, model: FastVLM) -> None:
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
    visual_tokens = model.encode(torch.from_numpy(image.pixels)).flatten(0, 1)
    positions = torch.arange(12)[None]
    whole = model(visual_tokens, token_ids=token_ids, is_visual=is_visual, positions=positions)
    np.testing.assert_allclose(np.concatenate(stepped), whole[0, -4:].numpy(), atol=1e-4)
    assert stepped[0].dtype == np.float32
    assert cache.num_positions == 12


def test_pitfall_b9_batched_left_padded_answers_equal_single_ones_over_64_tokens(runtime: Runtime) -> None:
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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_batched_logits_equal_single_ones_for_any_lengths(runtime: Runtime, lengths: list[int]) -> None:
    generator = np.random.default_rng(sum(lengths))
    prompts = [runtime.embed(prompt(generator.integers(0, 97, length).tolist()), []) for length in lengths]
    logits, cache = runtime.prefill(prompts)
    following = generator.integers(0, 97, len(lengths))
    decoded = runtime.decode(following, cache)
    for row, one in enumerate(prompts):
        single_logits, single_cache = runtime.prefill([one])
        np.testing.assert_allclose(logits[row], single_logits[0], atol=1e-4)
        np.testing.assert_allclose(decoded[row], runtime.decode(following[row : row + 1], single_cache)[0], atol=1e-4)


@pytest.mark.parametrize("num_kept", [1, 4, 8])
def test_a_resumed_prompt_has_the_numbers_of_a_whole_one(runtime: Runtime, num_kept: int) -> None:
    """Whatever was read and decoded after the positions that are kept."""
    encoded = runtime.encode(tiles(TileLayout(64, 128)))
    whole = runtime.embed(prompt([5, 6], (0, 2), [7, 8, 9, 10, 11]), [encoded])
    expected, cache = runtime.prefill([whole])
    following = [runtime.decode(np.array([token]), cache) for token in (12, 13)]
    other = runtime.embed(prompt([5, 6], (0, 2), [7, 8, 9, 10, 40, 41, 42]), [encoded])
    _, used = runtime.prefill([other])
    runtime.decode(np.array([50]), used)
    resumed, cache = runtime.resume(used, whole, num_kept=num_kept)
    np.testing.assert_allclose(resumed, expected, atol=1e-4)
    assert cache.num_positions == 9
    for token, logits in zip((12, 13), following, strict=True):
        np.testing.assert_allclose(runtime.decode(np.array([token]), cache), logits, atol=1e-4)


def test_positions_that_a_cache_cannot_stand_for_are_refused(runtime: Runtime) -> None:
    one = runtime.embed(prompt([5, 6, 7]), [])
    for num_kept in (0, 3, 4):
        with pytest.raises(PromptError, match=r"Expected to keep 1 to 2 positions.*read the whole prompt"):
            runtime.resume(runtime.prefill([one])[1], one, num_kept=num_kept)
    with pytest.raises(PromptError, match="of 2 rows"):
        runtime.resume(runtime.prefill([one, one])[1], one, num_kept=1)


def test_pitfall_b20_each_image_stands_in_its_own_slots(runtime: Runtime) -> None:
    first, second = runtime.encode(tiles(TileLayout(64, 128), 1)), runtime.encode(tiles(TileLayout(128, 128), 2))
    embedded = runtime.embed(prompt([5], (0, 2), [6, 7], (1, 4), [8]), [first, second])
    swapped = runtime.embed(prompt([5], (1, 4), [6, 7], (0, 2), [8]), [first, second])
    words = runtime.embed(prompt([5, 6, 7, 8]), [])
    assert embedded.num_positions == 10
    spoken, one, two = (np.asarray(item.data) for item in (words, first, second))
    np.testing.assert_array_equal(embedded.data, np.concatenate([spoken[:1], one, spoken[1:3], two, spoken[3:]]))
    np.testing.assert_array_equal(swapped.data, np.concatenate([spoken[:1], two, spoken[1:3], one, spoken[3:]]))


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
    runtime: Runtime, asked: PromptTokens, num_images: int, message: str
) -> None:
    images = [runtime.encode(tiles(TileLayout(64, 128), seed)) for seed in range(num_images)]
    with pytest.raises(PromptError, match=message):
        runtime.embed(asked, images)


def test_pitfall_b26_ids_outside_the_vocabulary_are_refused_and_sentinels_in_slots_are_not_looked_up(
    runtime: Runtime,
) -> None:
    for outside in (-200, 97):
        with pytest.raises(PromptError, match=f"from 0 to 96, got {outside}"):
            runtime.embed(prompt([5, outside]), [])
    encoded = runtime.encode(tiles(TileLayout(64, 128)))
    question = prompt([5], (0, 2))
    with_sentinel = replace(question, token_ids=np.array([5, -200, -200]))
    looked_up = [runtime.embed(asked, [encoded]).data for asked in (with_sentinel, question)]
    np.testing.assert_array_equal(*looked_up)


def test_prompts_that_cannot_be_read_are_refused(runtime: Runtime) -> None:
    with pytest.raises(PromptError, match="at least one prompt"):
        runtime.prefill([])
    with pytest.raises(PromptError, match="at least one prompt of at least one token"):
        runtime.prefill([runtime.embed(prompt([]), [])])
    with pytest.raises(PromptError, match="fewer than 128 tokens, the model's context, got 128"):
        runtime.prefill([runtime.embed(prompt([1] * 128), [])])
    refused = r"Expected pixels of uint8 and shape \(1, 64, 64, 3\).*got uint8 and \(1, 64, 128, 3\)"
    with pytest.raises(PromptError, match=refused):
        runtime.encode(replace(tiles(TileLayout(64, 128)), layout=TileLayout(64, 64)))
    with pytest.raises(PromptError, match=r"3 channels and 256 levels for pixels, got \(256, 3\)"):
        runtime.encode(replace(tiles(TileLayout(64, 64)), table=np.zeros((256, 3), np.float32)))


def test_an_answer_ends_where_the_context_does(runtime: Runtime) -> None:
    logits, cache = runtime.prefill([runtime.embed(prompt([1] * 126), [])])
    for _ in range(2):
        logits = runtime.decode(logits.argmax(-1), cache)
    assert cache.num_positions == 128
    with pytest.raises(GenerationError, match="at most 128 tokens, the model's context, got 129"):
        runtime.decode(logits.argmax(-1), cache)
    with pytest.raises(GenerationError, match="one token for each of 1 rows"):
        runtime.decode(np.array([1, 2]), cache)


def test_undefined_pixels_are_refused(runtime: Runtime) -> None:
    image = tiles(TileLayout(64, 64))
    with pytest.raises(PromptError, match="finite value for each level"):
        runtime.encode(replace(image, table=np.full((3, 256), np.nan, np.float32)))
    with pytest.raises(GenerationError, match="finite visual tokens"):
        runtime.encode(replace(image, table=np.full((3, 256), 3e38, np.float32)))
    with pytest.raises(PromptError, match="multiples of 64 px, got 100 x 64"):
        runtime.encode(tiles(TileLayout(64, 100)))


def test_read_only_pixels_and_ids_are_read_without_a_warning(
    runtime: Runtime, recwarn: pytest.WarningsRecorder
) -> None:
    image = tiles(TileLayout(64, 64))
    image.levels.setflags(write=False)
    image.table.setflags(write=False)
    expected = runtime.encode(tiles(TileLayout(64, 64)))
    np.testing.assert_array_equal(runtime.encode(image).data, expected.data)
    assert [str(warning.message) for warning in recwarn] == []


def test_encoded_images_serve_many_questions(runtime: Runtime) -> None:
    encoded = runtime.encode(tiles(TileLayout(64, 128)))
    assert isinstance(encoded, VisualTokens)
    before = np.asarray(encoded.data).copy()
    for question in ([7], [8, 9]):
        greedy(runtime, [runtime.embed(prompt([5], (0, 2), question), [encoded])], num_tokens=3)
    np.testing.assert_array_equal(encoded.data, before)
