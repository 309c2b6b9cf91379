"""`fastvlm inspect` and `fastvlm models` through the real process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_model_as_text(run: Run, parrot: Path) -> None:
    finished = run("inspect", parrot)
    assert finished.returncode == 0, finished.stderr
    for word in ("parrot", "vision parameters", "projector parameters", "decoder parameters", "chatml", "<|im_end|>"):
        assert word in finished.stdout


def test_model_as_json_counts_what_torch_counts(run: Run, parrot: Path) -> None:
    from fastvlm.checkpoints.load import load_checkpoint

    summary = json.loads(run("inspect", parrot, "--json").stdout)
    model = load_checkpoint(parrot, form="stored").model
    for part in ("vision", "projector", "decoder"):
        parameters = model.get_submodule(part).parameters()
        assert summary["num_parameters"][part] == sum(parameter.numel() for parameter in parameters)
    assert summary["weight_bytes"]["float32"] == 4 * summary["num_parameters"]["total"]
    assert summary["config"]["model_type"] == "fastvlm"
    # 1024 x 768 px: the parrot sees 4 tokens at most, squares of 2 x 2, and five of those when it tiles.
    assert summary["visual_tokens"] == {"pad": 4, "crop": 4, "anyres": 20, "fit": 4}
    assert summary["end_tokens"] == {"<|im_end|>": 2}
    assert "QUESTION" in summary["prompt"] and "<image>" in summary["prompt"]


def test_inspecting_needs_no_torch(parrot: Path, picture: Path) -> None:
    for target in (parrot, picture):
        program = (
            f"import sys; sys.argv = ['fastvlm', 'inspect', {str(target)!r}]\n"
            f"if {target == picture}: sys.argv += ['--model', {str(parrot)!r}]\n"
            "from fastvlm.cli.main import main\n"
            "try: main()\n"
            "except SystemExit as leaving: assert not leaving.code, leaving.code\n"
            "print('LOADED', 'torch' in sys.modules)"
        )
        output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert output.splitlines()[-1] == "LOADED False"


def test_picture_and_what_the_model_sees(run: Run, parrot: Path, picture: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.png"
    finished = run("inspect", picture, "--model", parrot, "--output", seen, "--json")
    facts = json.loads(finished.stdout)
    assert (facts["width_px"], facts["height_px"], facts["mode"]) == (200, 100, "fit")
    assert (facts["num_tiles"], facts["num_visual_tokens"], facts["scale"]) == (1, 2, 0.64)
    pixels = np.asarray(Image.open(seen))
    assert pixels.shape == (64, 128, 3)
    assert pixels[35, 35].tolist() == [255, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["seen.png"]


def test_existing_output_is_kept_unless_forced(
    run: Run, fails: Callable[..., str], parrot: Path, picture: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.png"
    seen.write_bytes(b"precious")
    assert "exists" in fails("inspect", picture, "--model", parrot, "--output", seen)
    assert seen.read_bytes() == b"precious"
    assert run("inspect", picture, "--model", parrot, "--output", seen, "--force").returncode == 0
    assert Image.open(seen).size == (128, 64)


@pytest.mark.parametrize(
    ("output", "words"), [("seen.jpg", ".png"), ("folder.png", "something else"), ("no/such/folder/seen.png", "write")]
)
def test_output_that_cannot_be(
    fails: Callable[..., str], parrot: Path, picture: Path, tmp_path: Path, output: str, words: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    line = fails("inspect", picture, "--model", parrot, "--output", tmp_path / output, "--force")
    assert words in line


def test_models_lists_what_is_known_and_cached(run: Run, parrot: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--someone--parrot"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    (snapshot / "config.json").write_bytes((parrot / "config.json").read_bytes())
    other = tmp_path / "hub" / "models--someone--bert" / "snapshots" / "4567def"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "bert"}')
    finished = run("models", "--json", environment={"HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")})
    models = {model["name"]: model for model in json.loads(finished.stdout)["models"]}
    assert models["apple/FastVLM-7B"]["place"] == "hub"
    assert models["apple/FastVLM-7B"]["licence"] == "apple-amlr"
    assert models["someone/parrot"]["place"] == "cache"
    assert "someone/bert" not in models


def test_models_as_a_table(run: Run, tmp_path: Path) -> None:
    finished = run("models", environment={"HF_HUB_CACHE": str(tmp_path / "none")})
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("MODEL ")
    assert "research only" in finished.stdout


@pytest.mark.parametrize("size", ["0.5b", "1.5b", "7b"])
def test_known_sizes_are_those_of_the_presets(size: str) -> None:
    import torch

    from fastvlm.checkpoints.catalogue import HUB_MODELS
    from fastvlm.models.config import VLMConfig
    from fastvlm.models.language.config import PRESETS as DECODERS
    from fastvlm.models.vision.config import PRESETS as ENCODERS
    from fastvlm.models.vlm import FastVLM

    with torch.device("meta"):
        model = FastVLM(VLMConfig(vision=ENCODERS["fastvithd"], decoder=DECODERS[f"qwen2-{size}"]))
    known = next(model for model in HUB_MODELS if model.name.lower().endswith(f"-{size}"))
    assert known.num_parameters == sum(parameter.numel() for parameter in model.parameters())
