"""A checkpoint appears whole or not at all, and says what others need to know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.checkpoints.rewrite import rewrite_checkpoint
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.errors import CheckpointError
from fastvlm.models.vision.fastvithd import fuse
from fastvlm.processing.tokenizer import Tokenizer


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_with_content_is_refused_and_kept(saved: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("four years")
    with pytest.raises(CheckpointError, match="new or empty folder"):
        rewrite_checkpoint(saved(), target, layout="apple")
    assert everything_in(target) == ["thesis.txt"]
    with pytest.raises(CheckpointError, match="new or empty folder"):
        rewrite_checkpoint(tmp_path / "fastvlm", target / "thesis.txt", layout="apple")


def test_an_empty_folder_is_filled_and_parents_are_made(saved: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b"):
        assert rewrite_checkpoint(saved(name=f"from-{target.name}"), target, layout="fastvlm") == target
        assert everything_in(target) == ["config.json", "model.safetensors", "tokenizer.json"]
        assert target.stat().st_mode & 0o777 & 0o500 == 0o500
        assert everything_in(target.parent).count(target.name) == 1
    assert not [name for name in everything_in(tmp_path) if name.startswith(".")]


def test_a_failure_in_the_middle_leaves_nothing(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved()

    def fail(self: Tokenizer, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Tokenizer, "save", fail)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        rewrite_checkpoint(source, tmp_path / "target", layout="apple")
    assert "\n" not in str(caught.value)
    assert everything_in(tmp_path) == ["fastvlm"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_leaves_nothing(saved: Callable[..., Path], tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from fastvlm.checkpoints.rewrite import rewrite_checkpoint\n"
        "from fastvlm.errors import CheckpointError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        f"    rewrite_checkpoint({str(saved())!r}, {str(tmp_path / 'target')!r}, layout='fastvlm')\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "Nothing was left there" in done.stdout, done.stderr
    assert everything_in(tmp_path) == ["fastvlm"]


def test_an_interrupt_leaves_nothing(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved()

    def interrupt(self: Tokenizer, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tokenizer, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rewrite_checkpoint(source, tmp_path / "target", layout="apple")
    assert everything_in(tmp_path) == ["fastvlm"]


@pytest.mark.parametrize("layout", ["apple", "transformers"])
def test_pitfall_b12_every_end_of_an_answer_is_written(layout: str, saved: Callable[..., Path]) -> None:
    folder = saved(layout)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"


def test_pitfall_b12_our_own_config_without_the_end_of_a_turn_is_refused(
    saved: Callable[..., Path], small: Any
) -> None:
    folder = saved()
    small.edit_json(folder / "config.json", eos_token_ids=[0])
    with pytest.raises(CheckpointError, match=r"<\|im_end\|>"):
        load_checkpoint(folder)


def test_pitfall_b4_the_authors_loader_finds_the_flag_that_keeps_the_encoder(saved: Callable[..., Path]) -> None:
    config = json.loads((saved("apple") / "config.json").read_text())
    assert config["unfreeze_mm_vision_tower"] is True
    assert config["mm_vision_tower"] == "mobileclip_l_128"
    assert config["image_aspect_ratio"] == "pad"


@pytest.mark.parametrize("layout", ["apple", "transformers"])
def test_pitfall_b13_a_tied_head_is_left_out_and_declared(layout: str, saved: Callable[..., Path], small: Any) -> None:
    tied = saved(layout)
    untied = saved(layout, name="untied", model=small.build(small.fused, replace(small.decoder, has_tied_head=False)))
    for folder, is_tied in ((tied, True), (untied, False)):
        config = json.loads((folder / "config.json").read_text())
        assert config["tie_word_embeddings"] is is_tied
        assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not is_tied


def test_the_image_token_gets_a_row_that_is_never_the_answer(
    saved: Callable[..., Path], small: Any, tokenizer: Tokenizer
) -> None:
    """transformers looks its image token up before it replaces it, so the table must have that row."""
    number = tokenizer.vocabulary_size
    model = small.build(small.fused, replace(small.decoder, vocabulary_size=number))
    loaded = load_checkpoint(saved("transformers", model=model)).model
    assert loaded.config.decoder.vocabulary_size == number + 1
    assert torch.equal(loaded.decoder.embed_tokens.weight[:number], model.decoder.embed_tokens.weight)
    hidden = torch.randn(50, small.decoder.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = loaded.decoder.logits(hidden)
    assert not (logits.argmax(-1) == number).any()


def test_encoders_that_a_layout_cannot_name_are_refused(saved: Callable[..., Path], small: Any) -> None:
    for change in ({"multi_scale": "average"}, {"head_dim": 16}, {"feed_forward_ratio": 3.0}):
        model = small.build(replace(small.fused, **change))
        for layout in ("apple", "transformers"):
            with pytest.raises(CheckpointError, match="fastvlm layout"):
                saved(layout, model=model)
        folder = saved("fastvlm", model=model, name=next(iter(change)))
        assert load_checkpoint(folder).model.config == model.config


def test_the_licence_travels_with_derivatives(saved: Callable[..., Path], tmp_path: Path) -> None:
    source = saved("apple")
    (source / "README.md").write_text("---\nlicense: apple-amlr\n---\n# FastVLM\n")
    (source / "LICENSE").write_text("Apple Machine Learning Research Model: research purposes only")
    for layout in ("fastvlm", "transformers", "apple"):
        target = rewrite_checkpoint(source, tmp_path / f"to-{layout}", layout=layout)  # type: ignore[arg-type]
        assert (target / "LICENSE").read_text() == (source / "LICENSE").read_text()
        card = (target / "README.md").read_text()
        assert card.startswith("---\nlicense: apple-amlr\n")
        assert "research purposes only" in card
        assert load_checkpoint(target).config.licence == "apple-amlr"


def test_qwen2_vocabulary_files_for_the_authors_loader(saved: Callable[..., Path], tokenizer: Tokenizer) -> None:
    folder = saved("apple")
    (folder / "tokenizer.json").unlink()
    again = load_checkpoint(folder).tokenizer
    for text in ("what is this?", "two blue squares, 17 naïve\n\n  cafés"):
        assert again.encode(text) == tokenizer.encode(text)
    assert dict(again.special_token_ids) == dict(tokenizer.special_token_ids)


def test_tied_and_transposed_parameters_are_written_as_they_look(
    tmp_path: Path, small: Any, tokenizer: Tokenizer
) -> None:
    model = small.build(small.fused)
    with torch.no_grad():
        weight = model.projector.linear_1.weight
        model.projector.linear_1.weight = torch.nn.Parameter(weight.t().contiguous().t())
        model.projector.linear_2.bias = model.projector.linear_1.bias
    save_checkpoint(tmp_path / "x", model, small.config_of(model), tokenizer)
    stored = load_file(tmp_path / "x" / "model.safetensors")
    assert torch.equal(stored["projector.linear_1.weight"], weight)
    assert torch.equal(stored["projector.linear_2.bias"], stored["projector.linear_1.bias"])


def test_a_16_bit_encoder_is_fused_in_float32(saved: Callable[..., Path], tmp_path: Path, small: Any) -> None:
    """Loading and converting fuse the numbers as they are stored, and round once, at the end."""
    precise = small.build().vision.to(torch.bfloat16).float()
    expected = {name: tensor.to(torch.bfloat16) for name, tensor in fuse(precise).state_dict().items()}
    folder = saved(dtype=torch.bfloat16)
    loaded = load_checkpoint(folder).model.vision.state_dict()
    written = load_checkpoint(rewrite_checkpoint(folder, tmp_path / "apple", layout="apple")).model.vision.state_dict()
    in_float32 = load_checkpoint(folder, dtype=torch.float32).model.vision.state_dict()
    is_rounded_late = False
    for name, tensor in expected.items():
        if tensor.dtype == torch.bfloat16:
            assert torch.equal(loaded[name], tensor) and torch.equal(written[name], tensor), name
            assert torch.equal(in_float32[name].to(torch.bfloat16), tensor), name
            is_rounded_late |= not torch.equal(in_float32[name], tensor.float())
    assert is_rounded_late, "asked for float32, nothing is rounded"


def test_a_float32_encoder_is_rounded_after_it_is_fused(saved: Callable[..., Path], small: Any) -> None:
    expected = fuse(small.build().vision).to(torch.bfloat16).state_dict()
    found = load_checkpoint(saved(), dtype=torch.bfloat16).model.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(found[f"vision.{name}"], tensor), name
    assert found["projector.linear_1.weight"].dtype == torch.bfloat16
