from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.numpy

from aerogel.errors import ExportError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.preview import preview
from aerogel.export.report import table, verdict
from aerogel.export.run import export

PREFIX = "bert.encoder.layer"


@pytest.fixture
def pruned(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A transformers directory of two layers with 4 heads of 8: head 1 of the first is gone, and 20 neurons."""
    folder = tmp_path / "model"
    source = tiny_checkpoint("bert", density=1, num_attention_heads=4)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("aerogel.json", "masks*"))
    weights = dict(safetensors.numpy.load_file(folder / "model.safetensors"))
    weights[f"{PREFIX}.0.attention.self.value.weight"][8:16] = 0
    weights[f"{PREFIX}.0.intermediate.dense.weight"][:12] = 0
    weights[f"{PREFIX}.1.output.dense.weight"][:, 3:11] = 0
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_heads_and_neurons_are_gone_and_outputs_are_equal(pruned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.onnx"
    config = ExportConfig(pruned, out, format="compact", embeddings="fp16")
    document = export(config)
    matrices = document["matrices"]
    shapes = {
        name.removeprefix(f"{PREFIX}."): m["shape"] for name, m in matrices.items() if "cut" in m["reason"]
    }
    assert shapes == {
        "0.attention.self.query.weight": [24, 32],
        "0.attention.self.key.weight": [24, 32],
        "0.attention.self.value.weight": [24, 32],
        "0.attention.output.dense.weight": [32, 24],
        "0.intermediate.dense.weight": [52, 32],
        "0.output.dense.weight": [32, 52],
        "1.intermediate.dense.weight": [56, 32],
        "1.output.dense.weight": [32, 56],
    }
    assert document["removed"] == {"heads": 1, "all_heads": 8, "neurons": 20, "all_neurons": 128}
    assert matrices[f"{PREFIX}.0.intermediate.dense.weight"]["reason"] == "cut from 64x32"
    assert matrices[f"{PREFIX}.0.intermediate.dense.weight"]["dense_bytes"] == 4 * 64 * 32
    assert matrices[f"{PREFIX}.1.attention.self.query.weight"]["reason"] == "nothing to remove"
    assert document["parity"]["onnxruntime"]["bundled"]["relative"] <= document["parity"]["tolerance"]
    proto = onnx.load(out)
    assert not proto.functions
    assert {node.domain for node in proto.graph.node} == {""}
    assert preview(config)["bytes"] == out.stat().st_size
    assert "removed: 1 of 8 attention heads and 20 of 128 neurons" in verdict(document)
    assert table(document).row_count == 12


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"weights": "int8"}, "--weights"),
        ({"block": (4, 4)}, "--block"),
        ({"max_density": 0.5}, "--max-density"),
    ],
)
def test_options_of_packed_formats_are_refused(
    pruned: Path, tmp_path: Path, options: dict[str, Any], flag: str
) -> None:
    with pytest.raises(UsageError, match=f"{flag} does not apply to --format compact"):
        export(ExportConfig(pruned, tmp_path / "out" / "m.onnx", format="compact", **options))
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_be_cut_are_refused(
    tiny_checkpoint: Callable[..., Path], token_model: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out" / "m.onnx"
    with pytest.raises(UsageError, match=r"no head or neuron of .* is wholly pruned; use --format auto"):
        export(ExportConfig(tiny_checkpoint("bert", density=1), out, format="compact"))
    with pytest.raises(ExportError, match=r"of ModernBert\w* are not of a kind that can be cut"):
        export(ExportConfig(tiny_checkpoint("modernbert", density=1), out, format="compact"))
    with pytest.raises(ExportError, match=r"dense\.onnx: --format compact needs the model's modules"):
        export(ExportConfig(token_model("dense.onnx"), out, format="compact"))
    assert not out.exists()
