from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from aerogel.bench.convert.decompose import decompose
from aerogel.bench.model import scan
from aerogel.errors import ExportError

Make = Callable[[], Path]


def run(path: Path, ids: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(path).run(None, {"input_ids": ids})[0])


def test_decomposed_model_has_old_operators_and_the_same_outputs(layer_model: Make, tmp_path: Path) -> None:
    model, ids = layer_model(), np.random.default_rng(0).integers(0, 30, (2, 5))
    made = decompose(model, tmp_path / "made" / "2x5.onnx", 2, 5)
    np.testing.assert_allclose(run(made, ids), run(model, ids), rtol=1e-5, atol=1e-6)
    graph = onnx.load(made).graph
    operators = {node.op_type for node in graph.node}
    assert not operators & {"LayerNormalization", "Shape", "Concat"}
    assert {"ReduceMean", "Pow", "Sqrt", "Erf"} <= operators
    assert [item.version for item in onnx.load(made).opset_import] == [14]
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [2, 5]
    assert all(attribute.name != "allowzero" for node in graph.node for attribute in node.attribute)


def test_constants_are_the_second_operand(layer_model: Make, tmp_path: Path) -> None:
    graph = onnx.load(decompose(layer_model(), tmp_path / "made" / "1x4.onnx", 1, 4)).graph
    weights = {item.name for item in graph.initializer}
    swapped = [node for node in graph.node if node.op_type in ("Add", "Mul") and set(node.input) & weights]
    assert len(swapped) == 7  # 1 + erf, 0.5 x, two biases; epsilon, gamma and beta
    assert all(node.input[1] in weights for node in swapped)


def test_shapes_share_their_weights(layer_model: Make, tmp_path: Path) -> None:
    model, folder = layer_model(), tmp_path / "made"
    one, two = (decompose(model, folder / f"{n}x4.onnx", n, 4) for n in (1, 2))
    assert sorted(file.name for file in folder.iterdir()) == [
        "1x4.onnx",
        "2x4.onnx",
        "shared.data",
        "weights.onnx",
    ]
    shared = (folder / "shared.data").stat().st_size
    assert shared > 30 * 8 * 4
    assert [scan(path).size - path.stat().st_size for path in (one, two)] == [shared, shared]


def test_an_existing_file_is_kept_and_the_model_unchanged(layer_model: Make, tmp_path: Path) -> None:
    model = layer_model()
    before = model.read_bytes()
    made = decompose(model, tmp_path / "made" / "1x4.onnx", 1, 4)
    stamp = made.stat().st_mtime_ns
    assert decompose(model, made, 1, 4).stat().st_mtime_ns == stamp
    assert model.read_bytes() == before


def test_newer_operators_are_refused_without_output(layer_model: Make, tmp_path: Path) -> None:
    path = layer_model()
    model = onnx.load(path)
    model.opset_import[0].version = 20
    node = next(node for node in model.graph.node if node.op_type == "Erf")
    node.op_type = "Gelu"
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"layer\.onnx cannot be written in opset 14"):
        decompose(path, tmp_path / "made" / "1x4.onnx", 1, 4)
    assert not (tmp_path / "made" / "1x4.onnx").exists()
