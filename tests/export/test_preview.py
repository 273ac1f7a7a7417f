from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel.cost import cache
from aerogel.cost.machine import this_machine
from aerogel.errors import ExportError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.preview import preview
from aerogel.export.report import outlook, table
from aerogel.export.run import export
from aerogel.system.cache import CACHE_VARIABLE

Once = Callable[..., Path]
SHARED = (
    "target", "file", "bytes", "sizes", "max_length", "format", "weights", "matrices", "embeddings", "fusions",
    "left_out", "prediction", "density", "encoder_density",
)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "int8", "embeddings": "int8"},
        {"format": "bsr", "block": (4, 4), "weights": "fp16", "embeddings": "fp16"},
        {"format": "dense"},
        {"inline": True},
        {"fuse": False},
    ],
    ids=["default", "int8", "fp16 blocks", "dense", "inline", "unfused"],
)
def test_preview_describes_the_export_to_the_byte(
    capture_once: Once, tmp_path: Path, options: dict[str, Any]
) -> None:
    config = ExportConfig(capture_once("bert"), tmp_path / "out" / "m.onnx", **options)
    found = preview(config)
    assert list(tmp_path.iterdir()) == []
    made = export(config)
    assert {key: found[key] for key in SHARED} == {key: made[key] for key in SHARED}
    assert found["bytes"] == (tmp_path / "out" / "m.onnx").stat().st_size
    assert sum(found["sizes"].values()) == found["bytes"]
    assert json.loads(json.dumps(found)) == found


def test_parts_of_the_size_are_those_of_the_model(capture_once: Once, tmp_path: Path) -> None:
    config = ExportConfig(capture_once("bert"), tmp_path / "m.onnx", format="dense")
    sizes = preview(config)["sizes"]
    # Two layers of 32 features, 64 inside: six matrices, their biases, two normalizations.
    layer = 4 * (32 * 32 + 32) + (64 * 32 + 64) + (32 * 64 + 32) + 4 * 32
    assert sizes["encoder"] == 2 * 4 * layer
    tables = preview(config)["embeddings"].values()
    assert sizes["embeddings"] == sum(t["bytes"] for t in tables)
    assert sizes["other"] > 0


@pytest.mark.parametrize("calibrated", [False, True])
def test_preview_prints_sizes_and_speed(
    capture_once: Once,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_cost_model: Callable[..., Any],
    calibrated: bool,
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    if calibrated:
        cache.save(fake_cost_model(machine=this_machine(1), slot=4e-9, dense=(0, 0, 0, 1e-9)))
    found = preview(ExportConfig(capture_once("bert"), tmp_path / "m.onnx"))
    printed = outlook(found)
    assert printed.startswith("dry run, nothing written. m.onnx would have ")
    assert "encoder " in printed
    assert "post-layernorm fusion: 2 of 2 layers in one node" in printed
    assert ("ms without it (dense speed)" in printed) == calibrated
    assert ("speed not predicted: this machine has no calibration" in printed) != calibrated
    assert table(found).row_count == 6


def test_preview_refuses_what_the_export_refuses(
    capture_once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = capture_once("bert")
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not from an earlier export"):
        preview(ExportConfig(path, tmp_path / "m.onnx"))
    monkeypatch.setattr("aerogel.export.targets.onnx.MAX_BYTES", 1000)
    with pytest.raises(ExportError, match=r"more than the 1,000 of an \.onnx file"):
        preview(ExportConfig(path, tmp_path / "other.onnx", inline=True))
