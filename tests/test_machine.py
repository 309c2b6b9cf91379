"""The cache lies where its user says, else where the system keeps caches."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fastvlm import machine
from fastvlm.machine import cache_folder, describe_processor, make_room, num_cores


def test_the_cache_lies_where_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("FASTVLM_CACHE")
    assert cache_folder() == tmp_path / "usual" / "fastvlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "fastvlm"


def test_room_is_made_for_what_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "MAX_CACHE_BYTES", 30)
    sizes = {"a.blob": 10, "adapter-b.safetensors": 10, "c.blob": 10, "profile.json": 50, ".fastvlm-1.tmp": 5}
    for age, (name, size) in enumerate(sizes.items()):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (1000 - age, time.time() - 10))
    (tmp_path / ".fastvlm-old.tmp").write_bytes(b"half")
    os.utime(tmp_path / ".fastvlm-old.tmp", (0, time.time() - 7200))

    def names() -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    make_room(tmp_path / "a.blob")
    assert names() == set(sizes), "all fits, but for what a killed process left"
    (tmp_path / "d.blob").write_bytes(b"x" * 5)
    make_room(tmp_path / "d.blob")
    assert names() == {*sizes, "d.blob"} - {"c.blob"}, "the least lately used goes"
    (tmp_path / "large.blob").write_bytes(b"x" * 40)
    make_room(tmp_path / "large.blob")
    assert "large.blob" in names(), "what was just made stays, however large"
    (tmp_path / "its-other.blob").write_bytes(b"x" * 40)
    make_room(tmp_path / "its-other.blob")
    assert {"large.blob", "its-other.blob"} <= names(), "and a model's two do not throw each other out"
    (tmp_path / "its-encoder.blob").write_bytes(b"x" * 10)
    make_room(tmp_path / "its-encoder.blob")
    assert {"large.blob", "its-other.blob", "its-encoder.blob"} <= names(), "nor what is small beside them"


def test_a_processor_is_described_by_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    described = describe_processor()
    assert described and described == describe_processor()
    text = "processor : 0\nmodel name : A\nflags : avx2\n\nprocessor : 1\nmodel name : A\nflags : avx2\ncpu MHz : 17\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert describe_processor.__wrapped__() == "model name : Aflags : avx2"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError("none here")))
    assert describe_processor.__wrapped__()


@pytest.mark.parametrize(
    ("cpuinfo", "allowed", "quota", "expected"),
    [
        ([(0, 0, 0), (1, 0, 1), (2, 0, 0), (3, 0, 1)], {0, 1, 2, 3}, "max 100000", 2),
        ([(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)], {0, 1, 2, 3}, "", 4),
        ([(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)], {0, 2}, "", 2),
        ([(number, 0, number) for number in range(8)], set(range(8)), "250000 100000", 2),
        ([(number, 0, number) for number in range(8)], set(range(8)), "50000 100000", 1),
        ([], {0, 1, 2}, "", 3),
    ],
)
def test_cores_are_counted_once_and_within_what_a_container_has(
    monkeypatch: pytest.MonkeyPatch,
    cpuinfo: list[tuple[int, int, int]],
    allowed: set[int],
    quota: str,
    expected: int,
) -> None:
    blocks = [f"processor\t: {p}\nphysical id\t: {s}\ncore id\t\t: {c}\n" for p, s, c in cpuinfo]
    texts = {"/proc/cpuinfo": "\n".join(blocks), "/sys/fs/cgroup/cpu.max": quota}
    monkeypatch.setattr(machine, "_text_of", lambda path: texts.get(path, ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    assert num_cores() == expected


def test_an_instruction_is_known_by_its_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "describe_processor", lambda: "flags : fpu avx512_vnni")
    assert machine.has_instruction("avx512_vnni") and not machine.has_instruction("avx512")
