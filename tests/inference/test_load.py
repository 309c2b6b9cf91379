"""From a folder to an assistant."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastvlm
from fastvlm.checkpoints import hub
from fastvlm.errors import CheckpointError, GenerationError, MissingExtraError
from fastvlm.inference.latency import check_budget
from fastvlm.messages import ImagePart, user
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES

QUESTION = "How many red circles are there?"


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.*")
    }


def test_a_loaded_checkpoint_answers_as_the_model_that_was_saved(
    tiny_checkpoint: Path, torch_runtime: Any, assistant_with: Callable[..., Any], picture: Callable[..., Any]
) -> None:
    before = digests(tiny_checkpoint)
    loaded = fastvlm.load(tiny_checkpoint, device="cpu", dtype="float32")
    expected = assistant_with(torch_runtime).ask(QUESTION, images=picture(1), max_new_tokens=30)
    answer = loaded.ask(QUESTION, images=picture(1), max_new_tokens=30)
    assert answer.token_ids == expected.token_ids
    assert answer.usage == expected.usage
    assert answer.timings.load_ms > 0
    assert loaded.eos_token_ids == {0, 2}
    assert digests(tiny_checkpoint) == before, "pitfall B12: a checkpoint is never written to"


@pytest.mark.usefixtures("same_threads_afterwards")
def test_a_folder_may_be_text_and_precision_a_choice(tiny_checkpoint: Path, picture: Callable[..., Any]) -> None:
    assistant = fastvlm.load(str(tiny_checkpoint), runtime="torch", dtype="bfloat16", num_threads=1)
    assert torch.get_num_threads() == 1
    assert "bfloat16" in assistant.runtime.name
    assert assistant.ask(QUESTION, images=picture(1), max_new_tokens=5).usage.completion_tokens <= 5


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"device": "abacus"}, GenerationError, "abacus"),
        ({"dtype": "float7"}, GenerationError, "float7"),
        ({"device": "gpu"}, GenerationError, "device of auto, cpu, cuda, cuda:1 and so on, or mps, got 'gpu'"),
        ({"device": 3}, GenerationError, "device of auto.*got 3"),
        ({"dtype": "int8"}, GenerationError, "precision of auto, float32, bfloat16, float16, got 'int8'"),
        ({"num_threads": 0}, GenerationError, "thread"),
        ({"num_threads": 1.5}, GenerationError, "whole number of at least 1 thread, got 1.5"),
        ({"num_threads": "2"}, GenerationError, "whole number of at least 1 thread, got '2'"),
        ({"num_threads": True}, GenerationError, "whole number of at least 1 thread, got True"),
        ({"max_ttft_ms": "400ms"}, GenerationError, "as a number above 0 ms, got '400ms'"),
        ({"max_ttft_ms": True}, GenerationError, "as a number above 0 ms, got True"),
        ({"num_threads": 0, "runtime": "torch"}, GenerationError, "thread"),
        ({"runtime": "abacus"}, GenerationError, "auto, torch, openvino, kernels, got 'abacus'"),
        ({"runtime": "openvino", "device": "cuda"}, GenerationError, "cpu for OpenVINO, got 'cuda'"),
        ({"runtime": "openvino", "dtype": "float16"}, GenerationError, "bfloat16 in OpenVINO, got 'float16'"),
    ],
)
def test_wrong_choices_are_one_line(
    tiny_checkpoint: Path, arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        fastvlm.load(tiny_checkpoint, **arguments)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for model in (tmp_path, tmp_path / "nowhere", "no such model"):
        with pytest.raises(CheckpointError) as caught:
            fastvlm.load(model)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="as a folder or a name, got int"):
        fastvlm.load(5)


def test_pitfall_b12_a_checkpoint_without_an_end_is_refused_unless_a_string_ends_it(
    tiny_checkpoint: Path, tmp_path: Path, picture: Callable[..., Any]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_checkpoint.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text(encoding="utf-8"))
    stopless = TEMPLATES["plain"].to_dict() | {"name": "endless", "stop_strings": []}
    config["eos_token_ids"], config["template"] = [], stopless
    (broken / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = (broken / "tokenizer.json").read_text(encoding="utf-8")
    (broken / "tokenizer.json").write_text(tokenizer.replace("<|endoftext|>", "<|other|>"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"eos|ends an answer"):
        fastvlm.load(broken)
    (broken / "config.json").write_text(json.dumps(config | {"template": "plain"}), encoding="utf-8")
    assistant = fastvlm.load(broken, device="cpu")
    assert assistant.eos_token_ids == frozenset()
    answer = assistant.ask([user(ImagePart(picture(1)))], max_new_tokens=7)
    assert answer.finish_reason == "stop" or answer.usage.completion_tokens == 7, "a stop string or the length ends it"


def test_pitfall_b12_the_embedded_model_ends_its_answers(picture: Callable[..., Any]) -> None:
    """Ask 10 of users: an answer ends by itself, also about a picture that the model was never meant for."""
    try:
        hub.resolve(None)
    except CheckpointError:
        pytest.skip("no embedded model in this checkout")
    assistant = fastvlm.load()
    for question in (QUESTION, "What colour is the circle?", "Describe the picture.", "Who are you?"):
        answer = assistant.ask(question, images=picture(1), max_new_tokens=120)
        assert answer.finish_reason == "stop" and answer.text


def test_without_torch_the_install_command_is_told(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    for needs_torch in ({"runtime": "torch"}, {"device": "cuda"}, {"dtype": "float16"}):
        with pytest.raises(MissingExtraError, match=r"pip install 'fastvlm\[torch\]'"):
            fastvlm.load(tiny_checkpoint, **needs_torch)


def test_answering_on_a_processor_needs_no_torch(tiny_checkpoint: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import fastvlm\n"
        f"answer = fastvlm.load({str(tiny_checkpoint)!r}, device='cpu').ask('What is this?', max_new_tokens=3)\n"
        "print(len(answer.token_ids))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.stdout.strip() in {"0", "1", "2", "3"} and finished.returncode == 0, finished.stderr


def test_the_assistant_module_is_light() -> None:
    code = (
        "import sys, fastvlm, fastvlm.inference.assistant, fastvlm.inference.batching;"
        "sys.exit(bool({'torch', 'transformers', 'openvino'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_template_and_image_mode_may_be_chosen(tiny_checkpoint: Path) -> None:
    stored = fastvlm.load(tiny_checkpoint, device="cpu")
    for mode in ("pad", "crop", "anyres", "fit"):
        assistant = fastvlm.load(tiny_checkpoint, device="cpu", template="qwen_2", image_mode=mode)
        assert assistant.template is TEMPLATES["qwen_2"]
        assert assistant.image_processor.config.mode == mode
        assert assistant.image_processor.config.mean == stored.image_processor.config.mean
        assert assistant.image_processor.layout(300, 200).num_visual_tokens >= 1
    for wrong, words in (({"template": "klingon"}, "klingon"), ({"image_mode": "squash"}, "squash")):
        with pytest.raises(CheckpointError, match=words):
            fastvlm.load(tiny_checkpoint, **wrong)


def test_numbers_of_numpy_are_numbers(tiny_checkpoint: Path) -> None:
    for runtime in ("torch", "openvino"):
        assert fastvlm.load(tiny_checkpoint, runtime=runtime, num_threads=np.int64(1)).runtime.name
    check_budget(np.float32(400), ProcessingConfig())
