"""Bad pictures, bad checkpoints and a hostile world, through the real process: one clear line each, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

Fails = Callable[..., str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def _png_header(width_px: int, height_px: int) -> bytes:
    """The start of a PNG that claims to have this size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def _damaged_picture(kind: str, good: Path, path: Path) -> None:
    data = good.read_bytes()
    if kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(
            {
                "corrupt": data[:60] + bytes(40) + data[100:],
                "truncated": data[: len(data) // 2],
                "zero bytes": b"",
                "huge": _png_header(40_000, 40_000) + data[33:],
                "no picture": b"Dear model, this is a letter.",
            }[kind]
        )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("a folder", "folder"),
        ("corrupt", "whole picture"),
        ("truncated", "truncated"),
        ("zero bytes", "empty file"),
        ("huge", "1,600,000,000"),
        ("no picture", "no image format"),
    ],
)
def test_bad_picture(fails: Fails, parrot: Path, picture: Path, tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "bad.png"
    _damaged_picture(kind, picture, path)
    line = fails("inspect", path, "--model", parrot)  # reads pictures as `ask` does, and is quicker
    assert words in line
    assert "bad.png" in line


def test_bad_picture_among_good_ones(fails: Fails, parrot: Path, picture: Path, tmp_path: Path) -> None:
    _damaged_picture("truncated", picture, tmp_path / "bad.png")
    line = fails("ask", picture, tmp_path / "bad.png", "What is this?", "--model", parrot, "--json")
    assert "truncated" in line
    assert "bad.png" in line


def test_address_instead_of_a_file(fails: Fails, parrot: Path) -> None:
    assert "Download it" in fails("inspect", "https://example.org/a.png", "--model", parrot)


def test_picture_without_permission(fails: Fails, parrot: Path, picture: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    path = Path(shutil.copy(picture, tmp_path / "secret.png"))
    path.chmod(0)
    assert "permission" in fails("inspect", path, "--model", parrot)


def test_nothing_on_stdin(fails: Fails, parrot: Path) -> None:
    assert "0 bytes" in fails("inspect", "-", "--model", parrot)


def _change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _change_tensors(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


HEAD = "decoder.head.weight"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config.json": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "broken config.json": (lambda folder: (folder / "config.json").write_text('{"model_type": '), "JSON"),
    "config of another model": (lambda folder: _change_config(folder, model_type="bert"), "bert"),
    "config from the future": (lambda folder: _change_config(folder, format_version=99), "99"),
    "config without decoder": (lambda folder: _change_config(folder, decoder=None), "decoder"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (lambda folder: _truncate(folder / "model.safetensors"), "model.safetensors"),
    "weights that are text": (lambda folder: (folder / "model.safetensors").write_text("hello"), "model.safetensors"),
    "pickled weights": (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), "pickle"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer"),
}  # fmt: skip


BAD_TENSORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing tensor": (lambda folder: _change_tensors(folder, lambda tensors: tensors.pop(HEAD)), HEAD),
    "unexpected tensor": (
        lambda folder: _change_tensors(folder, lambda tensors: tensors.update(surprise=tensors[HEAD])), "surprise",
    ),
    "misshaped tensor": (
        lambda folder: _change_tensors(folder, lambda tensors: tensors.update({HEAD: tensors[HEAD][:-1]})), HEAD,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_bad_checkpoint(fails: Fails, parrot: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(parrot, tmp_path / "damaged"))
    damage, words = DAMAGES[kind]
    damage(folder)
    assert words in fails("inspect", folder)  # reads a folder as `ask` does, but for the tensors' values


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_bad_tensors(fails: Fails, parrot: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(parrot, tmp_path / "damaged"))
    damage, words = BAD_TENSORS[kind]
    damage(folder)
    assert words in fails("ask", "What is this?", "--model", folder)


def test_checkpoint_that_is_not_there(fails: Fails, tmp_path: Path) -> None:
    assert "nowhere" in fails("ask", "What is this?", "--model", tmp_path / "nowhere")


def test_checkpoint_that_is_a_file(fails: Fails, picture: Path) -> None:
    assert picture.name in fails("ask", "What is this?", "--model", picture)


def test_hub_id_without_a_network(fails: Fails, tmp_path: Path) -> None:
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    assert "somebody/something" in fails(
        "ask", "What is this?", "--model", "somebody/something", environment=environment
    )


def test_device_that_this_machine_lacks(fails: Fails, parrot: Path) -> None:
    import torch

    device = "mps" if torch.cuda.is_available() else "cuda"
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has everything")
    assert device in fails("ask", "What is this?", "--model", parrot, "--device", device)


def test_question_longer_than_the_context(fails: Fails, parrot: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(parrot, tmp_path / "short"))
    decoder = json.loads((folder / "config.json").read_text())["decoder"]
    _change_config(folder, decoder={**decoder, "max_positions": 64})
    assert "at most 63" in fails("ask", "word " * 200, "--model", folder)


def test_weights_that_are_not_finite(fails: Fails, parrot: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(parrot, tmp_path / "endless"))
    _change_tensors(folder, lambda tensors: tensors[HEAD].fill(float("nan")))
    assert "finite" in fails("ask", "What is this?", "--model", folder)


def test_interrupted_answer_keeps_what_was_said(start: Start, parrot: Path, picture: Path) -> None:
    process = start("ask", picture, "What is this?", "--model", parrot, "--max-tokens", "90000")
    said = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, errors = process.stdout.read(), process.stderr.read()
    assert process.wait(timeout=180) == 130
    assert said == "a"
    assert set(rest[:-1]) <= {"a"} and rest.endswith("\n")
    assert errors == "Interrupted.\n"


def _interrupting_itself(patch: str, arguments: list[object], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line with Ctrl-C sent from inside `patch`, which is Python: no race with the clock."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def interrupt(): os.kill(os.getpid(), signal.SIGINT)\n"
        f"{patch}\n"
        f"sys.argv = {['fastvlm', *map(str, arguments)]!r}\n"
        "from fastvlm.cli.main import main\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=folder
    )


@pytest.mark.parametrize("module", ["fastvlm.cli.output", "fastvlm.cli.ask", "fastvlm.inference.loading"])
def test_ctrl_c_while_commands_are_imported_is_one_line(parrot: Path, tmp_path: Path, module: str) -> None:
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        f"sys.argv = ['fastvlm', 'ask', 'What is this?', '--model', {str(parrot)!r}]\n"
        "from fastvlm.__main__ import main\n"
        "main()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=tmp_path
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, "", "Interrupted.\n")


def test_ctrl_c_in_compiling_is_one_line_and_leaves_nothing(parrot: Path, tmp_path: Path) -> None:
    patch = (
        "from fastvlm.runtimes.openvino.encoder import EncoderGraph\n"
        "build = EncoderGraph.build_projector\n"
        "def interrupted(self):\n"
        "    interrupt()\n"
        "    return build(self)\n"
        "EncoderGraph.build_projector = interrupted\n"
        f"os.environ['FASTVLM_CACHE'] = {str(tmp_path / 'cache')!r}"
    )
    finished = _interrupting_itself(patch, ["ask", "What is this?", "--model", parrot], tmp_path)
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, "", "Interrupted.\n")
    kept = sorted((tmp_path / "cache").iterdir())
    assert [path.name.split("-")[1] for path in kept] == ["fused"]
    assert all(path.suffix == ".blob" for path in kept)


def test_interrupted_json_prints_nothing(parrot: Path, tmp_path: Path) -> None:
    patch = (
        "from fastvlm.inference.sampling import Sampler\n"
        "choose, chosen = Sampler.choose, []\n"
        "def interrupted(self, logits):\n"
        "    chosen.append(choose(self, logits))\n"
        "    if len(chosen) == 5: interrupt()\n"
        "    return chosen[-1]\n"
        "Sampler.choose = interrupted"
    )
    arguments = ["ask", "What is this?", "--model", parrot, "--max-tokens", "90000", "--json"]
    finished = _interrupting_itself(patch, arguments, tmp_path)
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, "", "Interrupted.\n")


def test_interrupted_training_saves_and_says_so_in_one_line(run: Run, tmp_path: Path) -> None:
    patch = (
        "from fastvlm.training import loop\n"
        "step = loop._Run.step\n"
        "def interrupted(*arguments):\n"
        "    interrupt()\n"
        "    return step(*arguments)\n"
        "loop._Run.step = interrupted"
    )
    finished = _interrupting_itself(patch, ["train", "scenes-smoke"], tmp_path)
    assert (finished.returncode, finished.stdout) == (130, "")
    (line,) = finished.stderr.splitlines()
    assert line.startswith("Stopped after step 1 of 8; the state is saved in runs/scenes-smoke/")
    assert run("train", "scenes-smoke", "--resume", cwd=tmp_path).returncode == 0


def test_closed_pipe_in_mid_answer_ends_quietly(start: Start, parrot: Path) -> None:
    process = start("ask", "What is this?", "--model", parrot, "--max-tokens", "90000")
    assert process.stdout.read(1) == "a"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=180) == 141


def test_full_disk_under_the_answer(start: Start, parrot: Path) -> None:
    with open("/dev/full", "w") as full:
        process = start("ask", "What is this?", "--model", parrot, "--max-tokens", "5", stdout=full)
        _, errors = process.communicate(timeout=180)
    assert process.returncode == 1
    assert errors == "error: No space left on device. Free some space or write elsewhere.\n"
