"""The cache lies where its user says, else where the system keeps caches."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastvlm.machine import cache_folder, describe_processor


def test_the_cache_lies_where_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("FASTVLM_CACHE")
    assert cache_folder() == tmp_path / "usual" / "fastvlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "fastvlm"


def test_a_processor_is_described_by_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    described = describe_processor()
    assert described and described == describe_processor()
    text = "processor : 0\nmodel name : A\nflags : avx2\n\nprocessor : 1\nmodel name : A\nflags : avx2\ncpu MHz : 17\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert describe_processor.__wrapped__() == "model name : Aflags : avx2"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError("none here")))
    assert describe_processor.__wrapped__()
