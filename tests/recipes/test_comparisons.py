"""The paper's comparisons in miniature: the same cards for all, tokens as told, results that can be gone on with."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from fastvlm.cli.train import train_command
from fastvlm.data.synthetic.documents.drawing import (
    CHARACTER_NUMBERS,
    NUM_CHARACTER_CLASSES,
    character_places,
    is_legible,
    render,
)
from fastvlm.errors import TrainingError
from fastvlm.evaluation.scores import Accuracy
from fastvlm.models.vision.fastvithd import SelfAttention
from fastvlm.recipes.catalogue import MINIATURE_COMPARISONS
from fastvlm.recipes.miniature.cards import KEYS, TEST_SEED, TRAIN_SEED, Geometry, sample_card, tiles_of
from fastvlm.recipes.miniature.encoders import build_encoder, sine_positions
from fastvlm.recipes.miniature.pruning import METHODS, Pruned
from fastvlm.recipes.miniature.report import Results, Shares, draw, renewed, tables
from fastvlm.recipes.miniature.run import RESULTS_FILE, run
from fastvlm.recipes.miniature.sheets import SheetBatches
from fastvlm.recipes.miniature.study import (
    COMPARISONS,
    PRUNED,
    VARIANTS,
    FirstToken,
    Measured,
    Model,
    begin_projector,
    measure_first_tokens,
    measure_model,
    smoke_settings,
)


def test_every_comparison_is_of_models_that_there_are() -> None:
    assert tuple(COMPARISONS) == MINIATURE_COMPARISONS
    assert {name for names in COMPARISONS.values() for name in names} == set(VARIANTS)
    assert set(PRUNED) <= set(COMPARISONS["pruning"])


def test_encoders_are_of_about_one_size() -> None:
    sizes = [
        sum(parameter.numel() for parameter in build_encoder(name)[0].parameters())
        for name in ("fastvithd", "vit", "convnext")
    ]
    assert max(sizes) / min(sizes) < 1.1


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_model_is_given_as_many_tokens_as_it_makes(name: str) -> None:
    model = Model(name, 0)
    batch = model.batches(smoke_settings(), seed=TRAIN_SEED, num_steps=1)[0]
    maps = model.vlm.vision.forward_stages(torch.from_numpy(batch.pixels))
    assert maps[-1].shape[0] * maps[-1].shape[2] * maps[-1].shape[3] == batch.is_visual.sum()
    assert batch.is_visual.sum() == 4 * model.geometry.num_tokens
    assert batch.dense is not None
    loss = model.heads(maps, batch.dense)
    assert torch.isfinite(loss.total)


@pytest.mark.parametrize("name", ["FastViTHD 128", "ViT 128", "ConvNeXt 192"])
def test_every_projector_begins_as_a_linear_map(name: str) -> None:
    model = Model(name, 0)
    begin_projector(model, smoke_settings())
    batch = model.batches(smoke_settings(), seed=TEST_SEED, num_steps=1)[0]
    with torch.no_grad():
        features = model.vlm.vision.forward_stages(torch.from_numpy(batch.pixels))[-1]
        projected = model.vlm.project(features).flatten(0, 1)
        tokens = features.flatten(2).transpose(1, 2).flatten(0, 1)
        projector = model.vlm.projector
        straight = (tokens @ projector.linear_1.weight.T) @ projector.linear_2.weight.T
    assert (projected - straight).std() < 0.05 * straight.std()
    assert straight.std() > 0.1


def test_all_models_are_asked_the_same() -> None:
    """Whatever the size, the tiles or the encoder: the same cards and the same questions."""
    asked = []
    for name in VARIANTS:
        batch = Model(name, 0).batches(smoke_settings(), seed=TEST_SEED, num_steps=1)[0]
        asked.append([ids[~visual].tolist() for ids, visual in zip(batch.token_ids, batch.is_visual, strict=True)])
    for other in asked[1:]:
        assert [[token for token in row if token] for row in other] == [
            [token for token in row if token] for row in asked[0]
        ]
    one, two = sample_card(random.Random(3), 128), sample_card(random.Random(3), 256)
    assert one.entries == two.entries and len({color for color, _ in one.entries}) == 8


def test_the_test_has_other_cards_than_the_training_of_any_seed() -> None:
    model = Model("FastViTHD 128", 1)
    own, test = (model.batches(smoke_settings(), seed=seed, num_steps=1)[0] for seed in (TRAIN_SEED, TEST_SEED))
    first = Model("FastViTHD 128", 0)
    assert not np.array_equal(own.pixels, first.batches(smoke_settings(), seed=TRAIN_SEED, num_steps=1)[0].pixels)
    assert np.array_equal(test.pixels, first.batches(smoke_settings(), seed=TEST_SEED, num_steps=1)[0].pixels)
    assert not np.array_equal(own.pixels, test.pixels)


def test_tiles_show_what_their_labels_say() -> None:
    card = sample_card(random.Random(5), 256)
    tiles = tiles_of(render(card.drawing), 128)
    assert [tile.shape for tile in tiles] == [(128, 128, 3)] * 5
    rows = [np.concatenate(tiles[start : start + 2], axis=1) for start in (1, 3)]
    assert (np.concatenate(rows) == render(card.drawing)).all()
    geometry = Geometry(size_px=256, stride_px=64, mapped={4: 64}, tile_px=128)
    labels = geometry.labels(card, np.random.default_rng(0))[4]
    assert len(labels) == 5 and geometry.num_tokens == 20
    colors = [{int(number) - NUM_CHARACTER_CLASSES for number in np.unique(own)} for own in labels]
    # The first row of the left column lies in the first tile alone, the last row of the right one in the last.
    first, last = (KEYS.index(card.entries[index][0]) for index in (0, -1))
    assert [first in own for own in colors] == [True, True, False, False, False]
    assert [last in own for own in colors] == [True, False, False, False, True]


@pytest.mark.parametrize("tile_px", [None, 128])
def test_labels_of_where_to_read_are_the_tokens_that_show_it(tile_px: int | None) -> None:
    """Painted on the card, every place comes back in the token that is named, on the finer pictures."""
    card = sample_card(random.Random(5), 256)
    geometry = Geometry(size_px=256, stride_px=64, mapped={4: 64}, tile_px=tile_px)
    for string in geometry.strings(card):
        token, across, down = (int(number) for number in string.spots[0])
        place = next((square.middle_px for square in card.squares if square.color == string.text), None) or next(
            tuple(places[0])
            for mark, places in zip(card.drawing.texts, character_places(card.drawing), strict=True)
            if mark.text == string.text
        )
        picture = np.zeros((256, 256, 3), np.uint8)
        picture[int(place[1]), int(place[0])] = 255
        pictures = [picture] if tile_px is None else tiles_of(picture, tile_px)
        cells = [
            shown[top : top + 64, left : left + 64]
            for shown in pictures
            for top in range(0, len(shown), 64)
            for left in range(0, len(shown), 64)
        ]
        assert cells[token].max() == 255 and token >= (0 if tile_px is None else 4)
        row, column = np.argwhere(cells[token][:, :, 0] == 255)[0]
        assert (column // 4, row // 16) == (across, down)


def test_questions_know_where_to_look() -> None:
    """Each names one colour, and each letter of its answer is read in a visual token; what is pruned knows nothing."""
    model = Model("FastViTHD 192", 0)
    batch = model.batches(smoke_settings(), seed=TRAIN_SEED, num_steps=1)[0]
    places = batch.reading
    assert places is not None and len(places.named) == 4 * 2 and len(places.read) >= 2 * len(places.named)
    assert (places.named_shares[:, 1:].sum(1) == 1).all() and (places.read_spots >= 0).all()
    pruned = model.batches(smoke_settings(), seed=TRAIN_SEED, num_steps=1, num_tokens=4)[0]
    assert pruned.reading is None


def test_sheets_are_full_and_the_same_for_every_encoder() -> None:
    batches = [
        SheetBatches(mapped=Model(name, 0).geometry.mapped, num_steps=1, batch_size=4)
        for name in ("FastViTHD 128", "ViT 128")
    ]
    one, other = (own[0] for own in batches)
    assert np.array_equal(one.pixels, other.pixels) and one.dense is not None and other.dense is not None
    assert (one.dense.class_maps[2] > 0).sum() > 100
    classes = set(np.unique(one.dense.class_maps[2]))
    assert {CHARACTER_NUMBERS[digit] for digit in "0123456789"} <= classes
    assert classes & {NUM_CHARACTER_CLASSES + number for number in range(len(KEYS))}
    with pytest.raises(IndexError):
        batches[0][1]


def test_entries_lie_across_the_seams_of_tiles_now_and_then() -> None:
    """A square in one tile and its number in another, or both cut."""
    crossing = 0
    for seed in range(60):
        card = sample_card(random.Random(seed), 256)
        assert is_legible(card.drawing)
        marks = zip(card.squares, card.drawing.texts, character_places(card.drawing), strict=True)
        for square, mark, places in marks:
            is_across = square.middle_px[0] < 128 < places[-1, 0]
            crossing += bool(is_across or mark.y_px - 0.7 * mark.size_px < 128 < mark.y_px)
    assert 40 < crossing < 240, "of 480"


def test_pruning_keeps_what_it_says() -> None:
    torch.manual_seed(0)
    encoder, _ = build_encoder("vit")
    pixels = torch.rand(2, 3, 64, 64)
    whole = encoder.eval().forward_stages(pixels)[-1].flatten(2)
    kept = {method: Pruned(encoder, method, side=2).forward_stages(pixels)[0].squeeze(2) for method in METHODS}
    assert all(tokens.shape == (2, 128, 4) for tokens in kept.values())
    assert torch.allclose(kept["uniform"], whole[:, :, [5, 7, 13, 15]])
    assert torch.allclose(kept["pooling"][:, :, 0], whole[:, :, [0, 1, 4, 5]].mean(2), atol=1e-6)
    for method in ("random", "attention", "similarity"):
        for picture in range(2):
            places = [
                next(
                    place for place in range(16) if torch.equal(whole[picture, :, place], kept[method][picture, :, one])
                )
                for one in range(4)
            ]
            assert places == sorted(set(places)), method
    longest = whole.norm(dim=1).argmax(1)
    assert all((kept["similarity"][n] == whole[n, :, [int(longest[n])]]).all(0).any() for n in range(2))


def test_an_encoder_without_attention_is_not_pruned_by_it() -> None:
    with pytest.raises(TrainingError, match="Prune another way"):
        Pruned(build_encoder("convnext")[0], "attention", side=1)


def test_attention_that_is_received_decides() -> None:
    """Of a layer whose keys are alike for all but one place, that place is kept."""
    torch.manual_seed(0)

    class OneLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = SelfAttention(32, head_dim=32)

        def forward_stages(self, x: torch.Tensor) -> list[torch.Tensor]:
            self.attention(x)
            return [x]

    encoder = OneLayer()
    with torch.no_grad():
        encoder.attention.qkv.weight.zero_()
        encoder.attention.qkv.weight[:32] = torch.eye(32)
        encoder.attention.qkv.weight[32:64] = torch.eye(32)
    x = torch.ones(1, 32, 3, 3)
    x[0, :, 1, 2] = 3.0
    assert (Pruned(encoder, "attention", side=1).forward_stages(x)[0] == 3).all()


def test_places_differ_and_are_the_same_at_every_size() -> None:
    small, large = sine_positions(4, 4, 128), sine_positions(6, 5, 128)
    assert torch.equal(small, large[:, :4, :4])
    assert len(torch.unique(large.flatten(1).T.round(decimals=4), dim=0)) == 30


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniature")
    run(folder, names=list(VARIANTS), seeds=[0], settings=smoke_settings())
    return folder


def test_everything_is_measured_and_kept(finished: Path) -> None:
    results = Results.read(finished / RESULTS_FILE)
    whole = [one for one in results.measured if one.method is None]
    assert [one.name for one in whole] == list(VARIANTS)
    assert all(one.accuracy.num_questions == 16 and one.machine for one in whole)
    assert len(results.measured) - len(whole) == len(METHODS) * sum(map(len, PRUNED.values()))
    assert results.first_tokens.keys() == VARIANTS.keys()
    assert len(list(finished.glob("*/see"))) == 5, "what an encoder sees first is learned once, but for pretrained ones"
    before = (finished / RESULTS_FILE).read_bytes()
    run(finished, names=list(VARIANTS), seeds=[0], settings=smoke_settings())
    assert (finished / RESULTS_FILE).read_bytes() == before, "nothing is measured twice"


def test_results_alone_are_gone_on_with(finished: Path, tmp_path: Path) -> None:
    """Those of another machine count, and are timed anew; the number of workers may be another one, too."""
    stored = json.loads((finished / RESULTS_FILE).read_text())
    stored["measured"] = [{**one, "machine": "another"} for one in stored["measured"] if one["name"] != "ViT 128"]
    (tmp_path / RESULTS_FILE).write_text(json.dumps({**stored, "machine": "another"}))
    settings = replace(smoke_settings(), num_workers=1)
    run(tmp_path, names=["ViT 128", "ViT 192"], seeds=[0], settings=settings)
    results = Results.read(tmp_path / RESULTS_FILE)
    assert {one.name: one.machine == "another" for one in results.measured if one.method is None} == {
        name: name != "ViT 128" for name in VARIANTS
    }
    assert results.machine != "another" and results.first_tokens.keys() == VARIANTS.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == [RESULTS_FILE, "vit-0", "vit-128-0"]


def test_tables_and_plots_show_every_comparison(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = Results.read(finished / RESULTS_FILE)
    text = tables(results)
    assert all(f"### {name}" in text for name in COMPARISONS)
    assert "| ViT 192, similarity | 36 |" in text
    document = "# M\n\n<!-- comparison: tiles -->\nold\n<!-- end of comparison -->\nafter\n"
    made = renewed(document, results)
    assert "old" not in made and "| FastViTHD 256 in tiles | 20 |" in made and made.endswith("\nafter\n")
    assert renewed(made, results) == made
    some = replace(results, measured=results.of("FastViTHD 256"))
    assert "FastViTHD 256 in tiles" not in renewed(made, some) and "| FastViTHD 256 | 16 |" in renewed(made, some)
    paths = draw(results, tmp_path)
    assert [path.name for path in paths] == [f"miniature-{name}.svg" for name in COMPARISONS]
    assert all(path.read_text().startswith("<?xml") for path in paths)


def test_shares_tell_their_spread() -> None:
    measured = [
        Measured(name="x", seed=seed, num_tokens=9, parameters=1, accuracy=Accuracy(right, 10), machine="a")
        for seed, right in enumerate((2, 3, 7))
    ]
    assert str(Shares.of(measured)) == "40.0 (20.0 to 70.0)" and Shares.of(measured).bar == (20.0, 70.0)
    low, high = Shares.of(measured[:1]).bar  # of two right of ten
    assert low == pytest.approx(5.67, abs=0.01) and high == pytest.approx(50.98, abs=0.01)


def test_first_tokens_are_timed_in_turn() -> None:
    models = [Model(name, 0) for name in ("FastViTHD 128", "ViT 128")]
    order: list[str] = []
    for model in models:
        model.vlm.decoder.register_forward_pre_hook(lambda *_, name=model.name: order.append(name))
    found = measure_first_tokens(models, smoke_settings())
    assert order == ["FastViTHD 128", "ViT 128"] * (len(order) // 2) and len(order) > 4
    assert found.keys() == {"FastViTHD 128", "ViT 128"}
    assert all(isinstance(one, FirstToken) and 0 < one.low_ms <= one.high_ms for one in found.values())


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = Model("ViT 192", 0)
    encoder = model.vlm.vision
    measured = measure_model(model, smoke_settings(), machine="a machine")
    assert model.vlm.vision is encoder
    assert not any(part._forward_pre_hooks for part in encoder.modules())
    assert {one.num_tokens for one in measured} == {144, 36, 16, 9, 4}


def test_the_command_tells_what_it_found(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        train_command, ["miniature", "--smoke", "--seeds", "1", "--only", "multi-scale", "-o", str(tmp_path / "run")]
    )
    assert result.exit_code == 0, result.output
    assert "### multi-scale" in result.output and "### tiles" not in result.output
    assert json.loads((tmp_path / "run" / RESULTS_FILE).read_text())["settings"]["num_steps"] == 2
    again = ["miniature", "--seeds", "1", "--only", "multi-scale", "-o", str(tmp_path / "run"), "--resume"]
    result = CliRunner().invoke(train_command, [*again, "--smoke"])
    assert result.exit_code == 0 and "answer 1/2" not in result.output, "nothing is trained twice"
    with pytest.raises(TrainingError, match="Expected the settings"):
        CliRunner().invoke(train_command, again, catch_exceptions=False)
