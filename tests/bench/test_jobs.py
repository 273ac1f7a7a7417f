from __future__ import annotations

from pathlib import Path

from aerogel.bench.jobs import labels


def test_links_go_by_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    links = []
    for name, blob in (("a/model.onnx", "0123"), ("b/model.onnx", "4567"), ("b/other.onnx", "89ab")):
        (tmp_path / "blobs" / blob).touch()
        link = tmp_path / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / "blobs" / blob)
        links.append(link)
    assert list(labels(links).values()) == ["a/model.onnx", "b/model.onnx", "b/other.onnx"]
    assert list(labels(links[1:]).values()) == ["model.onnx", "other.onnx"]
