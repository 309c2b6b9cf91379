"""Hub ids: what is fetched, what is shown before, and one line for everything that goes wrong.

The hub itself is a local stand-in; no test reaches the network.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from fastvlm.checkpoints.hub import resolve
from fastvlm.errors import CheckpointError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Record what is asked of the hub, and answer with an empty folder."""
    calls: list[dict[str, Any]] = []

    def fetch(repo_id: str, **options: Any) -> str:
        calls.append({"repo_id": repo_id, **options})
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return calls


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)


def http_error(kind: type[Exception], status: int) -> Exception:
    # Made without the constructor, whose response is of another library in each version of huggingface_hub.
    error = kind.__new__(kind)
    error.args = (f"{status} Client Error.\n\nCannot access the repository.",)
    return error


class TransportError(Exception):
    """What a connection may raise: no subclass of anything."""


@pytest.mark.usefixtures("hub")
def test_a_local_folder_wins_over_the_hub(tmp_path: Path, hub: list[dict[str, Any]]) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert resolve("owner/name") == Path("owner/name")
    assert hub == []


def test_a_hub_id_and_its_revision(tmp_path: Path, hub: list[dict[str, Any]]) -> None:
    assert resolve("owner/name") == tmp_path / "snapshot"
    assert resolve("owner/Name-0.5B@refs/pr/2") == tmp_path / "snapshot"
    assert [(call["repo_id"], call["revision"]) for call in hub if "*.safetensors" in call["allow_patterns"]] == [
        ("owner/name", None),
        ("owner/Name-0.5B", "refs/pr/2"),
    ]


def test_pickles_code_and_exports_are_never_fetched(hub: list[dict[str, Any]]) -> None:
    resolve("owner/name")
    assert hub[0]["allow_patterns"] == ["config.json", "README.md"], "what tells the licence comes first"
    allow, ignore = hub[1]["allow_patterns"], hub[1]["ignore_patterns"]

    def is_fetched(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in allow) and not any(fnmatch(name, one) for one in ignore)

    wanted = (
        "config.json", "model.safetensors", "model-00001-of-00004.safetensors", "model.safetensors.index.json",
        "tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja", "LICENSE",
        "README.md", "generation_config.json", "preprocessor_config.json",
    )  # fmt: skip
    unwanted = (
        "pytorch_model.bin", "model.pt", "mm_projector.bin", "llava_qwen.py", "trainer_state.json", "onnx/model.onnx",
        "fastvithd.mlpackage/Manifest.json", "training_args.bin", "original/model.safetensors", "x.pkl",
    )  # fmt: skip
    assert [name for name in wanted if not is_fetched(name)] == []
    assert [name for name in unwanted if is_fetched(name)] == []


def test_the_research_licence_is_shown_once_and_before_the_download(
    hub: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown_before: list[str] = []

    def fetch(repo_id: str, **_: Any) -> str:
        shown_before.append(capsys.readouterr().err)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    resolve("apple/FastVLM-0.5B")
    resolve("apple/FastVLM-7B")
    assert "research purposes only" in shown_before[0]
    assert "apple/FastVLM-0.5B" in shown_before[0]
    assert shown_before[1] == ""
    assert capsys.readouterr().out == "", "answers for programs go to stdout"


CARD = "---\nlanguage: en\n{}\n---\n# A model\nlicense: apple-amlr\n"


@pytest.mark.parametrize(
    ("config", "card", "is_shown"),
    [
        ('{"model_type": "llava_qwen2"}', None, True),
        ('{"model_type": "fast_vlm"}', CARD.format("license: mit"), True),
        ('{"model_type": "bert"}', CARD.format("license: apple-amlr"), True),
        ("{}", CARD.format("license: other\nlicense_name: 'apple-ascl'"), True),
        ('{"model_type": "fastvlm", "licence": "apple-amlr"}', None, True),
        ('{"model_type": "fastvlm", "licence": "Apache-2.0"}', CARD.format("license: apache-2.0"), False),
        ("broken", "no metadata, but license: apple-amlr", False),
        (None, None, False),
    ],
)
def test_copies_of_the_authors_weights_show_their_licence_before_the_weights_are_fetched(
    hub: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    config: str | None,
    card: str | None,
    is_shown: bool,
) -> None:
    shown_before_weights: list[str] = []

    def fetch(_: str, *, allow_patterns: list[str], **__: Any) -> str:
        if "*.safetensors" in allow_patterns:
            shown_before_weights.append(capsys.readouterr().err)
            return str(tmp_path)
        for name, text in (("config.json", config), ("README.md", card)):
            if name in allow_patterns and text is not None:
                (tmp_path / name).write_text(text)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    resolve("someone/FastVLM-copy")
    resolve("someone/FastVLM-copy")
    resolve("someone-else/FastVLM-copy")
    first, second, of_another = shown_before_weights
    assert ("research purposes only" in first and "someone/FastVLM-copy" in first) == is_shown
    assert second == "", "shown once"
    assert ("someone-else/FastVLM-copy" in of_another) == is_shown


def test_a_cache_that_cannot_be_written_to_stops_nothing(
    hub: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert resolve("apple/FastVLM-0.5B") == tmp_path / "snapshot"
    assert "research purposes only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: http_error(errors.RepositoryNotFoundError, 404), "a folder here or a model on the hub"),
        (lambda: http_error(errors.RevisionNotFoundError, 404), "revision"),
        (lambda: http_error(errors.GatedRepoError, 403), "agree to terms"),
        (lambda: http_error(errors.HfHubHTTPError, 503), "503"),
        (lambda: errors.LocalEntryNotFoundError("not in the cache"), "offline"),
        (lambda: errors.OfflineModeIsEnabled("offline"), "offline"),
        (lambda: errors.HFValidationError("Repo id must\nbe short"), "Repo id must be short"),
        (lambda: TransportError("the peer\nwent away"), "the peer went away"),
        (lambda: ConnectionError("Name or service not known"), "Name or service not known"),
        (lambda: OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_whatever_goes_wrong_is_one_line_that_names_the_model(
    make: Callable[[], Exception], words: str, hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, make())
    with pytest.raises(CheckpointError) as caught:
        resolve("owner/name@v1")
    text = str(caught.value)
    assert words in text
    assert "owner/name" in text
    assert "\n" not in text


def test_the_embedded_model_is_the_default() -> None:
    """It is part of the package: a checkout without it is not whole."""
    folder = resolve(None)
    assert folder == resolve("embedded") and folder.name == "embedded"
    assert (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()
