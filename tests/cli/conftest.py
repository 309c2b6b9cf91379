"""The real process, and a checkpoint whose answer is known: it always says `a`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def command_line(arguments: Sequence[object]) -> list[str]:
    return [sys.executable, "-m", "fastvlm", *map(str, arguments)]


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start `fastvlm` with these arguments and return the process with its streams as text."""

    def starting(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        # What a shell starts in the background ignores Ctrl-C and hands this on to its children.
        options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**ENVIRONMENT, **options.pop("environment", {})}
        return subprocess.Popen(command_line(arguments), text=True, env=environment, **{**pipes, **options})

    return starting


@pytest.fixture(scope="session")
def run() -> Run:
    """Run `fastvlm` with these arguments to its end."""

    def running(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**ENVIRONMENT, **options.pop("environment", {})}
        if "stdout" not in options:
            options |= {"capture_output": True}
        if "input" not in options:
            options |= {"stdin": subprocess.DEVNULL}
        text = {"text": True} if not isinstance(options.get("input"), bytes) else {}
        return subprocess.run(command_line(arguments), env=environment, timeout=300, check=False, **{**text, **options})

    return running


@pytest.fixture(scope="session")
def fails(run: Run) -> Callable[..., str]:
    """Run `fastvlm` and expect a failure told in exactly one line; returns that line."""

    def failing(*arguments: object, code: int = 1, **options: Any) -> str:
        finished = run(*arguments, **options)
        assert finished.returncode == code, finished.stderr
        assert not finished.stdout
        lines = finished.stderr.splitlines()
        assert len(lines) == 1, finished.stderr
        assert lines[0].startswith("error: ")
        return lines[0]

    return failing


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red circle on white."""
    path = tmp_path_factory.mktemp("pictures") / "circle.png"
    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 90, 90), fill="red")
    image.save(path)
    return path


@pytest.fixture(scope="session")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder in our own format: a tiny model that says `a` for ever, whatever it is asked."""
    import torch

    from fastvlm.checkpoints.config import ModelConfig
    from fastvlm.checkpoints.save import save_checkpoint
    from fastvlm.models.config import VLMConfig
    from fastvlm.models.language.config import DecoderConfig
    from fastvlm.models.vision.config import FastViTHDConfig
    from fastvlm.models.vlm import FastVLM
    from fastvlm.processing.config import ProcessingConfig
    from fastvlm.processing.templates import TEMPLATES
    from fastvlm.processing.tokenizer import train_byte_level_bpe

    special_tokens = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = train_byte_level_bpe(["What is this?"] * 4, vocabulary_size=280, special_tokens=special_tokens)
    vlm = VLMConfig(
        vision=FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32)),
        decoder=DecoderConfig(
            vocabulary_size=tokenizer.vocabulary_size, width=32, num_layers=1, num_heads=1, num_key_value_heads=1,
            feed_forward_width=32, head_dim=32, max_positions=100_000, has_tied_head=False,
        ),
    )  # fmt: skip
    torch.manual_seed(0)
    model = FastVLM(vlm).eval()
    with torch.no_grad():
        for parameter in (*model.decoder.layers.parameters(), model.decoder.head.weight):
            parameter.zero_()
        model.decoder.embed_tokens.weight.fill_(1.0)
        model.decoder.head.weight[tokenizer.encode("a")[0]] = 1.0
    config = ModelConfig(
        name="parrot",
        vlm=vlm,
        processing=ProcessingConfig(mode="fit", max_visual_tokens=4),
        template=TEMPLATES["chatml"],
        eos_token_ids=(tokenizer.token_id("<|im_end|>"),),
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "parrot"
    save_checkpoint(folder, config=config, model=model, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="session")
def unsure_parrot(parrot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parrot, made to begin with a letter that it holds for all but impossible, and to be unsure below 0.3."""
    calibrated = tmp_path_factory.mktemp("models") / "unsure"
    shutil.copytree(parrot, calibrated)
    config = json.loads((calibrated / "config.json").read_text())
    letter = json.loads((calibrated / "tokenizer.json").read_text())["model"]["vocab"]["b"]
    config["calibration"] = {"refusal_token_id": letter, "refusal_bias": 100.0, "unsure_below": 0.3}
    (calibrated / "config.json").write_text(json.dumps(config))
    return calibrated
