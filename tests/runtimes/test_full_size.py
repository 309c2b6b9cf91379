"""The released models' shape, with random weights: OpenVINO equals torch, and answers where there is no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastvlm.benchmarks.questions import Question
from fastvlm.benchmarks.shapes import random_checkpoint, shape_config
from fastvlm.benchmarks.systems import build_system
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.runtimes.kernels.library import reason_against
from fastvlm.runtimes.openvino.engine import has_bfloat16

pytestmark = pytest.mark.slow

SHAPE = "fastvlm-0.5b"
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\nfrom fastvlm.cli.main import main\nmain()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in transformers' layout."""
    place = random_checkpoint(SHAPE, tmp_path_factory.mktemp("full") / SHAPE)
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    train_byte_level_bpe(["What is this? A picture."], vocabulary_size=300, special_tokens=special).save(
        place / "tokenizer.json"
    )
    return place


@pytest.mark.usefixtures("same_threads_afterwards")
def test_openvino_equals_torch(folder: Path, record_property: Any) -> None:
    """Logits within 1e-3 and the same 64 greedy tokens in float32; what fewer bits cost is recorded beside."""
    question, vocabulary_size = Question(512, 30), shape_config(SHAPE).decoder.vocabulary_size
    prompt = question.prompt(vocabulary_size=vocabulary_size)
    found: dict[str, tuple[Any, list[int]]] = {}
    bounds = {"fastvlm-openvino-int8": 0.1, "fastvlm-openvino-int4": 0.7}
    if has_bfloat16():
        bounds["fastvlm-openvino bfloat16"] = 0.05
    if reason_against() is None:
        bounds |= {"fastvlm-kernels bfloat16": 0.02, "fastvlm-kernels-int8 bfloat16": 0.1}
        bounds["fastvlm-kernels-int4 bfloat16"] = 0.7
    for kind in ("fastvlm-torch", "fastvlm-openvino", *bounds):
        name, precision = (*kind.split(), "float32")[:2]
        system: Any = build_system(name, shape=SHAPE, folder=folder, precision=precision, num_threads=2)
        runtime = system._runtime
        logits, cache = runtime.prefill([runtime.embed(prompt, [runtime.encode(question.pixels())])])
        tokens = [int(logits.argmax())]
        for _ in range(63 if kind in ("fastvlm-torch", "fastvlm-openvino") else 0):
            tokens.append(int(runtime.decode(np.array(tokens[-1:]), cache).argmax()))
        found[kind] = (logits, tokens)
        del system, runtime, cache
    expected, tokens = found["fastvlm-torch"]
    np.testing.assert_allclose(found["fastvlm-openvino"][0], expected, atol=1e-3)
    assert found["fastvlm-openvino"][1] == tokens
    for name, limit in bounds.items():
        error = float(np.linalg.norm(found[name][0] - expected) / np.linalg.norm(expected))
        print(f"{name}: relative error of the logits {error:.3f}")
        record_property(name, error)
        assert 0 < error < limit


def test_a_question_is_answered_without_torch(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.radial_gradient("L").save(picture)
    arguments = ["ask", str(picture), "What is this?", "--model", str(folder), "--max-tokens", "4", "--json"]
    finished = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[1:] = {arguments!r}\n{WITHOUT_TORCH}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FASTVLM_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout)
    assert answer["usage"]["visual_tokens"] == 256 and answer["usage"]["completion_tokens"] == 4
