from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.runtime.model_file import find_companion, snapshot


@pytest.mark.parametrize("name", ["config.json", "m.manifest.json"])
def test_find_companion_prefers_the_folder_of_the_model(tmp_path: Path, name: str) -> None:
    real, link = tmp_path / "v3/model.onnx", tmp_path / "m.onnx"
    real.parent.mkdir()
    real.touch()
    assert find_companion(real, real.with_name("config.json")) == real.with_name("config.json")
    link.symlink_to(real)
    beside = link.with_name(name)
    assert find_companion(link, beside) == beside
    own = real.with_name(name.replace("m.", "model.") if name.startswith("m.") else name)
    beside.touch()
    assert find_companion(link, beside) == beside
    own.touch()
    assert find_companion(link, beside) == own


def test_unchanged_detects_writes_and_deletion(tmp_path: Path) -> None:
    path, link = tmp_path / "model.onnx", tmp_path / "link"
    path.write_bytes(b"a" * 10)
    link.symlink_to(path)
    seen = snapshot(link)
    assert (seen.path, seen.size, seen.self_contained) == (path, 10, True)
    assert seen.unchanged()
    link.unlink()
    assert seen.unchanged()
    path.write_bytes(b"b" * 11)
    assert not seen.unchanged()
    seen = snapshot(path)
    path.unlink()
    assert not seen.unchanged()
    assert snapshot(path).size == 0
