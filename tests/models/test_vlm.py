"""The whole model: pixels and words to scores, and who may attend to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastvlm.errors import PromptError
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.projector import Projector
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM, segment_mask

CONFIG = VLMConfig(
    vision=FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 32, 64), layer_scale_init=0.1),
    decoder=DecoderConfig(
        vocabulary_size=50,
        width=32,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        feed_forward_width=48,
        head_dim=8,
        max_positions=64,
    ),
)


def random_model(config: VLMConfig = CONFIG) -> FastVLM:
    """Weights that keep activations near one, so that the picture reaches the scores."""
    torch.manual_seed(0)
    model = FastVLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "scale" not in name:
                fan_in = 1 if "embed_tokens" in name else parameter[0].numel()
                parameter.normal_(std=((3 if "vision" in name else 1.5) / fan_in) ** 0.5)
    return model


@pytest.fixture(scope="module")
def model() -> FastVLM:
    return random_model().eval()


def prompts() -> tuple[Tensor, Tensor, Tensor]:
    """Two rows about one image of 1 x 2 cells each: ids, slots and positions."""
    token_ids = torch.tensor([[5, 0, 0, 9, 4, 3], [7, 8, 0, 0, 6, 2]])
    is_visual = torch.tensor([[0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]], dtype=torch.bool)
    return token_ids, is_visual, torch.arange(6).expand(2, 6)


def test_parameters_are_named_after_the_checkpoint_format(model: FastVLM) -> None:
    assert {name.split(".")[0] for name in model.state_dict()} == {"vision", "projector", "decoder"}
    projector = {name: tuple(tensor.shape) for name, tensor in model.projector.state_dict().items()}
    width = CONFIG.decoder.width
    assert projector == {
        "linear_1.weight": (width, CONFIG.vision.output_width),
        "linear_1.bias": (width,),
        "linear_2.weight": (width, width),
        "linear_2.bias": (width,),
    }


@torch.no_grad()
def test_visual_tokens_follow_the_map_row_by_row(model: FastVLM) -> None:
    pixels = torch.rand(2, 3, 128, 192)
    tokens = model.encode(pixels)
    feature_map = model.vision(pixels)
    assert tokens.shape == (2, 2 * 3, CONFIG.decoder.width)
    for row in range(2):
        for column in range(3):
            expected = model.projector(feature_map[:, :, row, column])
            torch.testing.assert_close(tokens[:, row * 3 + column], expected, atol=1e-4, rtol=1e-4)


def score(
    model: FastVLM,
    pixels: torch.Tensor,
    token_ids: torch.Tensor,
    is_visual: torch.Tensor,
    positions: torch.Tensor,
    *,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Encode, then score."""
    visual_tokens = model.encode(pixels).flatten(0, 1) if len(pixels) else None
    return model(visual_tokens, token_ids=token_ids, is_visual=is_visual, positions=positions, rows=rows)


@torch.no_grad()
def test_tiles_in_one_batch_equal_tiles_one_by_one(model: FastVLM) -> None:
    pixels = torch.rand(5, 3, 64, 128)
    alone = torch.cat([model.encode(tile[None]) for tile in pixels])
    torch.testing.assert_close(model.encode(pixels), alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_forward_is_encode_then_embed_then_decode(model: FastVLM) -> None:
    token_ids, is_visual, positions = prompts()
    pixels = torch.rand(2, 3, 64, 128)
    visual_tokens = model.encode(pixels).flatten(0, 1)
    embeddings = model.decoder.embed(token_ids).clone()
    embeddings[is_visual] = visual_tokens
    expected = model.decoder.logits(model.decoder(embeddings, positions=positions))
    torch.testing.assert_close(score(model, pixels, token_ids, is_visual, positions), expected)


@torch.no_grad()
def test_the_answer_depends_on_the_picture_and_only_after_its_slots(model: FastVLM) -> None:
    token_ids, is_visual, positions = prompts()
    dark, bright = torch.zeros(2, 3, 64, 128), torch.ones(2, 3, 64, 128)
    difference = (
        score(model, dark, token_ids, is_visual, positions) - score(model, bright, token_ids, is_visual, positions)
    ).abs()
    assert difference[0, 3:].amax(-1).min() > 0.01
    assert difference[0, 0].max() == 0
    assert difference[1, :2].max() == 0


@torch.no_grad()
def test_wanted_rows_equal_those_of_all(model: FastVLM) -> None:
    token_ids, is_visual, positions = prompts()
    pixels = torch.rand(2, 3, 64, 128)
    rows = torch.tensor([[0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    everything = score(model, pixels, token_ids, is_visual, positions)
    selected = score(model, pixels, token_ids, is_visual, positions, rows=rows)
    assert selected.shape == (3, CONFIG.decoder.vocabulary_size)
    torch.testing.assert_close(selected, everything[rows], atol=1e-4, rtol=1e-4)


def test_pitfall_b6_text_alone_leaves_the_normalisation_statistics_as_they_were() -> None:
    model = FastVLM(replace(CONFIG, vision=replace(CONFIG.vision, form="train"))).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert before, "the train form normalises with running statistics"
    token_ids, is_visual, positions = prompts()
    logits = model(None, token_ids=token_ids, is_visual=torch.zeros_like(is_visual), positions=positions)
    logits.sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_pitfall_b8_images_and_slots_must_match(model: FastVLM, num_images: int) -> None:
    token_ids, is_visual, positions = prompts()
    with pytest.raises(PromptError, match=f"4 slots, got {2 * num_images} visual tokens"):
        score(model, torch.rand(num_images, 3, 64, 128), token_ids, is_visual, positions)


@torch.no_grad()
def test_pitfall_b26_ids_under_slots_are_never_looked_up(model: FastVLM) -> None:
    token_ids, is_visual, _ = prompts()
    visual_tokens = torch.rand(4, CONFIG.decoder.width)
    expected = model.embed(token_ids, is_visual, visual_tokens)
    with_sentinel = model.embed(token_ids.masked_fill(is_visual, -200), is_visual, visual_tokens)
    assert torch.equal(with_sentinel, expected)


def test_gradients_reach_every_part_and_not_the_word_of_id_0() -> None:
    token_ids, is_visual, positions = prompts()
    rows = torch.zeros_like(is_visual)
    rows[:, -1] = True
    untied = replace(CONFIG.decoder, has_tied_head=False)
    model = random_model(replace(CONFIG, decoder=untied)).train()
    logits = score(model, torch.rand(2, 3, 64, 128), token_ids, is_visual, positions, rows=rows)
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2])).backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []
    assert model.projector.linear_1.weight.grad.abs().max() > 0
    table = model.decoder.embed_tokens.weight.grad
    assert table[0].abs().max() == 0, "id 0 stands under the slots only"
    assert table[5].abs().max() > 0


@torch.no_grad()
def test_pitfall_b18_parts_may_differ_in_precision() -> None:
    model = random_model().eval()
    model.projector.bfloat16()
    model.decoder.bfloat16()
    token_ids, is_visual, positions = prompts()
    assert model.encode(torch.rand(2, 3, 64, 128, dtype=torch.float64)).dtype == torch.bfloat16
    assert score(model, torch.rand(2, 3, 64, 128), token_ids, is_visual, positions).isfinite().all()


def visible(segments: list[int]) -> list[list[int]]:
    """The slow twin of segment_mask: the rule, one pair at a time."""
    return [
        [
            int(query == key or (key < query and segments[query] >= 0 and segments[key] in (0, segments[query])))
            for key in range(len(segments))
        ]
        for query in range(len(segments))
    ]


def test_segments_see_what_is_shared_and_themselves() -> None:
    rows = [[0, 0, 1, 1, 2, 2, -1], [0, 1, 1, 2, 3, 3, 3], [0, 0, 0, 0, 0, 0, 0], [0, 1, -1, -1, -1, -1, -1]]
    mask = segment_mask(torch.tensor(rows))
    assert mask.shape == (4, 1, 7, 7)
    assert mask.dtype == torch.bool
    assert mask[:, 0].int().tolist() == [visible(row) for row in rows]
    assert mask.any(-1).all(), "an empty row would make attention undefined"
    assert mask[2, 0].equal(torch.ones(7, 7, dtype=torch.bool).tril())


@torch.no_grad()
def test_questions_that_share_a_row_score_as_if_alone(model: FastVLM) -> None:
    pixels = torch.rand(1, 3, 64, 128)
    shared, first, second = [5, 0, 0, 9], [4, 3, 7], [6, 2]
    is_visual = torch.zeros(1, 10, dtype=torch.bool)
    is_visual[0, 1:3] = True
    together = model(
        model.encode(pixels).flatten(0, 1),
        token_ids=torch.tensor([[*shared, *first, *second, 0]]),
        is_visual=is_visual,
        positions=torch.tensor([[0, 1, 2, 3, 4, 5, 6, 4, 5, 0]]),
        mask=segment_mask(torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2, -1]])),
    )
    assert together.isfinite().all()
    for question, columns in ((first, slice(4, 7)), (second, slice(7, 9))):
        length = 4 + len(question)
        ids, positions = torch.tensor([[*shared, *question]]), torch.arange(length)[None]
        alone = score(model, pixels, ids, is_visual[:, :length], positions)
        torch.testing.assert_close(together[:, columns], alone[:, 4:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_projector_can_begin_as_a_linear_map() -> None:
    """What it makes of a sum is nearly the sum of what it makes, and inputs can be told from outputs."""
    torch.manual_seed(0)
    projector = Projector(96, 32)
    projector.begin_linear(gain=1.0, scale=0.5)
    inputs = torch.randn(400, 96)
    outputs = projector(inputs)
    assert outputs.std() == pytest.approx(0.5, rel=0.1) and outputs.mean().abs() < 0.05
    exact = inputs @ (projector.linear_2.weight @ projector.linear_1.weight).T
    assert (outputs - exact).abs().max() < 0.05
    usual = Projector(96, 32)
    seen = usual(inputs)
    design = torch.cat((inputs, torch.ones(400, 1)), 1)
    left = seen - design @ torch.linalg.lstsq(design, seen).solution
    assert left.square().mean() > 0.02 * seen.var(), "the usual weights are no linear map"
