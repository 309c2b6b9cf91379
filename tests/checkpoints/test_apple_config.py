"""The authors' config.json: every key that matters is read, every value that we do not compute is refused."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.errors import CheckpointError
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import Tokenizer

# The released 0.5B configuration, with the widths of a small model.
RELEASED = {
    "_name_or_path": "",
    "architectures": ["LlavaQwen2ForCausalLM"],
    "auto_map": {"AutoConfig": "llava_qwen.LlavaConfig", "AutoModelForCausalLM": "llava_qwen.LlavaQwen2ForCausalLM"},
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "freeze_mm_mlp_adapter": False,
    "hidden_act": "silu",
    "hidden_size": 64,
    "image_aspect_ratio": "pad",
    "image_grid_pinpoints": None,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "max_window_layers": 24,
    "mm_hidden_size": 256,
    "mm_patch_merge_type": "flat",
    "mm_projector_lr": None,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "mobileclip_l_1024",
    "model_type": "llava_qwen2",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "tokenizer_model_max_length": 8192,
    "tokenizer_padding_side": "right",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.39.3",
    "tune_mm_mlp_adapter": False,
    "unfreeze_mm_vision_tower": True,
    "use_cache": True,
    "use_mm_proj": True,
    "use_sliding_window": False,
    "vision_config": {},
    "vocab_size": 320,
}


@pytest.fixture
def released(originals: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A folder as the authors release them, with changes; None removes a key."""

    def write(**changes: Any) -> Path:
        folder = tmp_path / "apple"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(originals("apple"), folder)
        small_vision = json.loads((folder / "config.json").read_text())["fastvlm"]["vision"]
        config = RELEASED | {"fastvlm": {"vision": small_vision}} | changes
        kept = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))
        for name in ("preprocessor_config.json", "tokenizer.json"):
            (folder / name).unlink()
        # As released: it names no end of a turn.
        (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": null}')
        return folder

    return write


def test_a_released_configuration_is_read(released: Callable[..., Path], small: Any) -> None:
    config = read_checkpoint(released()).config
    assert config.vlm.decoder == small.decoder
    assert config.vlm.vision == small.fused
    assert config.processing == ProcessingConfig(mode="pad", size_px=1024)
    assert config.template is TEMPLATES["qwen_2"]
    assert (config.name, config.bos_token_id) == ("apple", 0)


def test_pitfall_b5_mean_and_std_are_the_checkpoints_and_zero_and_one_by_default(
    released: Callable[..., Path],
) -> None:
    folder = released()
    assert read_checkpoint(folder).config.processing.mean == (0, 0, 0)
    assert read_checkpoint(folder).config.processing.std == (1, 1, 1)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}'
    )
    assert read_checkpoint(folder).config.processing.mean == (0.48, 0.46, 0.41)
    assert read_checkpoint(folder).config.processing.std == (0.27, 0.26, 0.28)
    (folder / "preprocessor_config.json").write_text('{"image_mean": 0.5}')
    with pytest.raises(CheckpointError, match="three numbers"):
        read_checkpoint(folder)


def test_pitfall_b12_the_end_of_a_turn_is_known_whatever_the_files_say(released: Callable[..., Path]) -> None:
    for eos_token_id in (None, 0, 2, 17, 10**9, [0, 17], "2"):
        ends = read_checkpoint(released(eos_token_id=eos_token_id)).config.eos_token_ids
        assert ends == (2, 0), f"{eos_token_id} may not add an ordinary word, nor take <|im_end|> away"


def test_pitfall_b12_a_tokenizer_without_the_end_of_a_turn_is_refused(
    saved: Callable[..., Path], llama_tokenizer: Tokenizer
) -> None:
    folder = saved("apple")
    llama_tokenizer.save(folder / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"<\|im_end\|>"):
        read_checkpoint(folder)


def test_pitfall_b14_nothing_depends_on_the_folders_name(released: Callable[..., Path], tmp_path: Path) -> None:
    folder = released()
    first = read_checkpoint(folder).config
    for name in ("llava-lora-mpt", "vicuna-mistral-7b-lora", "plain", "weights"):
        folder = folder.rename(tmp_path / name)
        assert replace(read_checkpoint(folder).config, name=first.name) == first


def test_pitfall_b16_the_resolution_comes_from_the_towers_name_and_the_file_system_is_not_asked(
    released: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The authors' code takes another tower where a path of this name exists in the working directory.
    (tmp_path / "mobileclip_l_512").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_checkpoint(released(mm_vision_tower="mobileclip_l_512")).config.processing.size_px == 512


def test_pitfall_b25_the_selected_layer_is_ignored_as_the_authors_tower_does(
    released: Callable[..., Path],
) -> None:
    first = read_checkpoint(released(mm_vision_select_layer=-2)).config
    assert read_checkpoint(released(mm_vision_select_layer=-1)).config == first


def test_pitfall_b24_foreign_code_is_neither_run_nor_pointed_to(saved: Callable[..., Path]) -> None:
    for layout in ("fastvlm", "apple", "transformers"):
        text = (saved(layout) / "config.json").read_text()
        assert "auto_map" not in text
        assert not list((saved(layout, name=f"{layout}-again")).glob("*.py"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "Other vision towers"),
        ({"mm_vision_tower": "mobileclip_l"}, "mobileclip_l_1024"),
        ({"mm_vision_tower": "mobileclip_l_0"}, "mobileclip_l_1024"),
        ({"mm_vision_tower": None}, "None"),
        ({"mm_hidden_size": 768}, "mm_hidden_size 256"),
        ({"mm_projector_type": "linear"}, "mlp2x_gelu"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "'flat'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end"),
        ({"image_aspect_ratio": "anyres_max_9"}, "pad, anyres or square"),
        ({"image_aspect_ratio": "anyres"}, "image_grid_pinpoints"),
        ({"image_aspect_ratio": "anyres", "image_grid_pinpoints": "(1x1),...,(6x6)"}, "image_grid_pinpoints"),
        ({"image_aspect_ratio": "anyres", "image_grid_pinpoints": [[1024]]}, "image_grid_pinpoints"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling"),
        ({"quantization": {"bits": 4}}, "unquantised"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_attention_heads": "4"}, "num_attention_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"rope_theta": "big"}, "rope_theta"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"image_aspect_ratio": ["pad"]}, "pad, anyres or square"),
        ({"conv_version": ["qwen_2"]}, "template's name"),
        ({"version": ["qwen_2"]}, "template's name"),
        ({"fastvlm": {"vision": {"depths": [1, 1, 2, 1]}}}, "64 px (five), got 4 stages and 32 px"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(
    changes: dict[str, Any], words: str, released: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(released(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pinpoints", [[[1024, 2048], [2048, 1024]], "[(1024, 2048), (2048, 1024)]"])
def test_anyres_pinpoints_are_width_and_height(pinpoints: object, released: Callable[..., Path]) -> None:
    config = read_checkpoint(released(image_aspect_ratio="anyres", image_grid_pinpoints=pinpoints)).config
    assert config.processing == ProcessingConfig(mode="anyres", pinpoints=((1024, 2048), (2048, 1024)))


@pytest.mark.parametrize("aspect", ["square", None])
def test_pitfall_b1_a_crop_is_read_and_warned_of(
    aspect: str | None, released: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_checkpoint(released(image_aspect_ratio=aspect)).config.processing.mode == "crop"
    assert "centre crop" in caplog.text


def test_the_template_may_be_named_and_follows_the_decoder_otherwise(
    released: Callable[..., Path], saved: Callable[..., Path], small: Any, llama_tokenizer: Tokenizer
) -> None:
    assert read_checkpoint(released(conv_version="plain")).config.template is TEMPLATES["plain"]
    model = small.build(small.fused, small.llama)
    folder = saved("apple", model=model, name="vicuna", tokenizer=llama_tokenizer, eos_token_ids=(2,),
                   template=TEMPLATES["v1"])  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llava_llama"
    assert "template" not in config["fastvlm"]
    assert read_checkpoint(folder).config.template is TEMPLATES["v1"]


def test_a_full_size_config_without_our_notes_describes_the_papers_encoder(released: Callable[..., Path]) -> None:
    """Strict: an encoder of another size beside the released config is not silently accepted."""
    with pytest.raises(CheckpointError, match="mm_hidden_size 3072"):
        read_checkpoint(released(fastvlm=None))


@pytest.mark.parametrize(
    ("readme", "licence_file", "expected"),
    [
        ("---\nlicense: apple-amlr\nlibrary_name: ml-fastvlm\n---\n# FastVLM\n", None, "apple-amlr"),
        ("---\nlicense: apache-2.0\n---\n", "Apple: for research purposes only", "apache-2.0"),
        ("# No front matter\nlicense: mit\n", "Apple model licence: Research Purposes", "apple-amlr"),
        ("---\nlicense: mit\n", None, None),
        (None, None, None),
    ],
)  # fmt: skip
def test_the_licence_is_read_from_the_card_or_the_authors_file(
    readme: str | None, licence_file: str | None, expected: str | None, released: Callable[..., Path]
) -> None:
    folder = released()
    (folder / "LICENSES").mkdir()  # as the convention REUSE has it
    for name, text in (("README.md", readme), ("LICENSE", licence_file)):
        if text is not None:
            (folder / name).write_text(text)
    assert read_checkpoint(folder).config.licence == expected


def test_a_hub_snapshot_is_shown_by_its_id(released: Callable[..., Path], tmp_path: Path) -> None:
    snapshot = tmp_path / "models--apple--FastVLM-0.5B" / "snapshots" / "0123abcd"
    snapshot.parent.mkdir(parents=True)
    assert read_checkpoint(released().rename(snapshot)).config.name == "apple/FastVLM-0.5B"
