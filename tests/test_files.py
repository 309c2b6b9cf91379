"""A file or a folder appears whole or not at all, whatever goes wrong."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastvlm.files import new_folder, replacing, write_whole

SOURCES = Path(__file__).resolve().parents[1] / "src" / "fastvlm"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "schön\n")
    write_whole(str(tmp_path / "bytes"), b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == "schön\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert names_in(tmp_path) == ["bytes", "text"]


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException, exists: bool) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_text("old")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert names_in(tmp_path) == (["file"] if exists else [])
    assert not exists or path.read_text() == "old"


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    program = (
        "import resource, signal, sys\n"
        "from fastvlm.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_whole(sys.argv[1], 'x' * 5000)\n"
        "except OSError as error: print(error.filename)\n"
    )
    path = tmp_path / "file"
    path.write_text("old")
    environment = {**os.environ, "PYTHONPATH": str(SOURCES.parent)}
    finished = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, env=environment
    )
    assert finished.stdout.strip() == str(path)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_permissions_are_kept_and_usual_for_a_new_file(tmp_path: Path) -> None:
    usual, new, old = tmp_path / "usual", tmp_path / "new", tmp_path / "old"
    usual.write_text("")
    old.write_text("")
    old.chmod(0o640)
    write_whole(new, "")
    write_whole(old, "")
    assert new.stat().st_mode == usual.stat().st_mode
    assert old.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "new"
    assert names_in(tmp_path / "folder") == ["file"]


def test_folders_and_devices_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError) as caught:
            write_whole(tmp_path / name, "text")
        assert caught.value.filename == str(tmp_path / name)
    assert names_in(tmp_path) == ["folder", "pipe"]
    assert (tmp_path / "folder").is_dir() and (tmp_path / "pipe").is_fifo()


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), "text")
    assert names_in(tmp_path) == ["n" * 255]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "missing" / "file", "text")
    assert caught.value.filename == str(tmp_path / "missing" / "file")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_appears_with_all_its_files(tmp_path: Path, is_there: bool) -> None:
    place = tmp_path / "a" / ("n" * 255)
    if is_there:
        place.mkdir(parents=True)
    with new_folder(place) as temporary:
        (temporary / "file").write_text("text")
        assert not place.exists() or not (place / "file").exists()
    assert names_in(place) == ["file"]
    assert names_in(place.parent) == [place.name]
    usual = tmp_path / "usual"
    usual.mkdir()
    assert place.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), new_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("half")
        raise error
    assert names_in(tmp_path) == []


def test_an_empty_folder_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    before = (tmp_path / "real").stat()
    for place in (Path("."), tmp_path / "link"):
        with new_folder(place) as temporary:
            for name in ("config.json", "z"):
                (temporary / name).write_text("text")
        assert names_in(Path.cwd()) == ["config.json", "z"], "of a shell that stands in it, too"
        after = (tmp_path / "real").stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
        for name in ("config.json", "z"):
            (tmp_path / "real" / name).unlink()


def test_what_a_killed_process_left_blocks_no_folder(tmp_path: Path) -> None:
    (tmp_path / "folder" / ".fastvlm-left").mkdir(parents=True)
    (tmp_path / "folder" / ".fastvlm-left" / "half").write_text("")
    os.utime(tmp_path / "folder" / ".fastvlm-left", (0, 0))
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("")
    assert names_in(tmp_path / "folder") == ["file"]


def test_files_come_into_an_empty_folder_weights_first_and_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    order: list[str] = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        order.append(target.name)
        if target.name == "config.json":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "folder") as temporary:
        for name in ("adapter_config.json", "config.json", "model.safetensors"):
            (temporary / name).write_text("")
    assert order == ["model.safetensors", "adapter_config.json", "config.json"]
    assert names_in(tmp_path / "folder") == []


def test_a_folder_with_content_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("")
    with pytest.raises(OSError), new_folder(tmp_path / "folder") as temporary:
        (temporary / "new").write_text("")
    assert names_in(tmp_path) == ["folder"] and names_in(tmp_path / "folder") == ["old"]
    with pytest.raises(OSError), new_folder(tmp_path / "folder" / "old"):
        raise AssertionError("a file is in its place")
    (tmp_path / "late").mkdir()
    with pytest.raises(OSError), new_folder(tmp_path / "late") as temporary:
        (temporary / "new").write_text("")
        (tmp_path / "late" / "old").write_text("")
    assert names_in(tmp_path / "late") == ["old"]


def test_nobody_writes_files_into_place_in_another_way() -> None:
    others = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        if re.search(r"os\.(replace|rename|fsync)\(", path.read_text(encoding="utf-8"))
    }
    assert others == {"files.py"}
