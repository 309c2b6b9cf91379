"""The head is tied or not as the weights say; full-size checkpoints are described and loaded without their memory.

The full-size folders are sparse files: headers of the released sizes, and zeros that take no space on the disk.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastvlm.checkpoints.catalogue import HUB_MODELS
from fastvlm.checkpoints.convert import apple
from fastvlm.checkpoints.convert.apple_config import write_config
from fastvlm.checkpoints.load import WithoutInitialisation, load_checkpoint
from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.checkpoints.summary import summarize
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import PRESETS as DECODERS
from fastvlm.models.vision.config import PRESETS as ENCODERS
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.tokenizer import Tokenizer

HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"


def set_tensor(folder: Path, name: str, value: torch.Tensor) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({key: tensor.clone() for key, tensor in tensors.items()} | {name: value}, folder / "model.safetensors")


def table_of(folder: Path) -> torch.Tensor:
    return load_file(folder / "model.safetensors")[TABLE].clone()


@pytest.mark.parametrize("declared", [True, False, None])
def test_pitfall_b13_an_absent_head_is_tied_whatever_the_config_says(
    declared: bool | None, saved: Callable[..., Path], small: Any
) -> None:
    folder = saved("apple")
    small.edit_json(folder / "config.json", tie_word_embeddings=declared)
    loaded = load_checkpoint(folder)
    assert loaded.config.vlm.decoder.has_tied_head
    assert "decoder.head.weight" not in loaded.model.state_dict()


@pytest.mark.parametrize("declared", [True, False])
def test_pitfall_b13_a_head_equal_to_the_table_is_tied(declared: bool, saved: Callable[..., Path], small: Any) -> None:
    folder = saved("apple")
    set_tensor(folder, HEAD, table_of(folder))
    small.edit_json(folder / "config.json", tie_word_embeddings=declared)
    assert load_checkpoint(folder).config.vlm.decoder.has_tied_head


@pytest.mark.parametrize("declared", [True, False])
def test_pitfall_b13_a_head_that_differs_in_one_number_is_untied(
    declared: bool, saved: Callable[..., Path], small: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved("apple")
    head = table_of(folder)
    head[-1, -1] += 1
    set_tensor(folder, HEAD, head)
    small.edit_json(folder / "config.json", tie_word_embeddings=declared)
    with caplog.at_level(logging.INFO):
        model = load_checkpoint(folder).model
    assert not model.config.decoder.has_tied_head
    assert torch.equal(model.decoder.head.weight, head)
    assert ("the weights decide" in caplog.text) is declared


def test_our_own_config_and_weights_must_agree_about_the_head(saved: Callable[..., Path], small: Any) -> None:
    folder = saved("fastvlm")
    decoder = json.loads((folder / "config.json").read_text())["decoder"]
    small.edit_json(folder / "config.json", decoder=decoder | {"has_tied_head": False})
    with pytest.raises(Exception, match="of its own"):
        load_checkpoint(folder)


def write_sparse(folder: Path, decoder: str, tokenizer: Tokenizer, small: Any) -> None:
    """Write the layout of a released checkpoint in bfloat16, as zeros that only exist as a file size."""
    folder.mkdir()
    vlm = VLMConfig(vision=ENCODERS["fastvithd-clip"], decoder=DECODERS[decoder])
    with torch.device("meta"), WithoutInitialisation():
        model = FastVLM(vlm)
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in sorted(model.state_dict().items()):
        theirs = apple.TABLE.to_theirs(name)
        assert theirs is not None
        is_counter = name.endswith("num_batches_tracked")
        begin, end = end, end + tensor.numel() * (8 if is_counter else 2)
        kind = "I64" if is_counter else "BF16"
        header[theirs] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        if HEAD in header:
            file.seek(8 + len(text) + header[HEAD]["data_offsets"][0])
            file.write(b"\x80\x3f")
    # As released: the three sizes all say False, and the vocabulary is padded past the tokenizer's.
    config = write_config(small.config_of(model)) | {"tie_word_embeddings": False, "vocab_size": 12}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(folder / "tokenizer.json")


@pytest.mark.parametrize(
    ("decoder", "is_tied", "size"),
    [("qwen2-0.5b", True, "0.5B"), ("qwen2-1.5b", True, "1.5B"), ("qwen2-7b", False, "7B")],
)
def test_pitfall_b13_released_sizes_are_told_apart_by_their_weights(
    decoder: str, is_tied: bool, size: str, tmp_path: Path, tokenizer: Tokenizer, small: Any
) -> None:
    write_sparse(tmp_path / "model", decoder, tokenizer, small)
    stored = read_checkpoint(tmp_path / "model")
    assert stored.config.vlm.decoder == DECODERS[decoder], "the vocabulary is read from the tensors' shapes"
    assert stored.config.vlm.decoder.has_tied_head is is_tied
    assert stored.config.vlm.vision == ENCODERS["fastvithd-clip"]
    known = next(model for model in HUB_MODELS if model.name.endswith(f"-{size}"))
    assert summarize(stored).num_parameters["total"] == known.num_parameters, "what models and inspect show agrees"


@pytest.mark.slow
def test_seven_billion_weights_load_without_their_memory(tmp_path: Path, tokenizer: Tokenizer, small: Any) -> None:
    write_sparse(tmp_path / "model", "qwen2-7b", tokenizer, small)
    program = (
        "import resource; from fastvlm.checkpoints.load import load_checkpoint; "
        f"model = load_checkpoint({str(tmp_path / 'model')!r}).model; "
        "print(sum(p.numel() for p in model.parameters()), "
        "any(p.is_meta for p in model.parameters()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    num_parameters, has_meta, peak_mib = done.stdout.split()
    assert int(num_parameters) > 7.7e9
    assert has_meta == "False"
    assert int(peak_mib) < 1500, "15 GB of weights stay on the disk until they are used"
