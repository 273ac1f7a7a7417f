from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from aerogel.bench.convert.decompose import fixed
from aerogel.bench.convert.qdq_to_int import integers
from aerogel.bench.convert.quantize import dynamic, static
from aerogel.errors import ExportError

Make = Callable[[], Path]


def run(path: Path, ids: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(path).run(None, {"input_ids": ids})[0])


def error(path: Path, model: Path) -> float:
    ids = np.random.default_rng(9).integers(0, 30, (2, 5))
    expected = run(model, ids)
    return float(np.abs(run(path, ids) - expected).max() / np.abs(expected).max())


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_has_integer_products_and_small_weights(
    layer_model: Make, tmp_path: Path, per_channel: bool
) -> None:
    model = layer_model()
    made = dynamic(model, tmp_path / "made" / "int8.onnx", per_channel=per_channel)
    assert kinds(made)["MatMulInteger"] == 2
    assert 1e-5 < error(made, model) < 0.05
    scales = [item for item in onnx.load(made).graph.initializer if item.name == "w1_scale"]
    assert numpy_helper.to_array(scales[0]).size == (12 if per_channel else 1)
    assert [file.name for file in made.parent.iterdir()] == ["int8.onnx"]


@pytest.mark.parametrize("per_channel", [False, True])
def test_static_quantises_the_inputs_and_weights_of_products(
    layer_model: Make, tmp_path: Path, per_channel: bool
) -> None:
    model = layer_model()
    made = static(model, tmp_path / "made" / "qdq.onnx", per_channel=per_channel)
    assert (kinds(made)["QuantizeLinear"], kinds(made)["DequantizeLinear"]) == (2, 4)
    assert 1e-5 < error(made, model) < 0.05
    stored = {item.name: item for item in onnx.load(made).graph.initializer}
    assert stored["w1_quantized"].data_type == onnx.TensorProto.INT8
    assert numpy_helper.to_array(stored["w1_scale"]).size == (12 if per_channel else 1)
    assert static(model, made, per_channel=per_channel) == made


@pytest.mark.parametrize("per_channel", [False, True])
def test_integer_products_give_what_the_quantised_file_gives(
    layer_model: Make, tmp_path: Path, per_channel: bool
) -> None:
    model = layer_model()
    quantised = static(model, tmp_path / "made" / "qdq.onnx", per_channel=per_channel)
    made = fixed(quantised, tmp_path / "made" / "2x5.onnx", 2, 5, integers)
    found = kinds(made)
    assert (found["MatMulInteger"], found["MatMul"], found["DequantizeLinear"]) == (2, 0, 0)
    # The residual connection reads what was quantised in one file and what it was made from in the other.
    assert 1e-6 < error(made, model) < 0.05
    bias = next(
        item for item in onnx.load(made).graph.initializer if item.data_type == onnx.TensorProto.INT32
    )
    assert list(bias.dims) == [12]


def test_a_model_without_products_is_refused(token_model: Callable[..., Path], tmp_path: Path) -> None:
    path = token_model("model.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.op_type = "Add"
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"model\.onnx has no MatMul with a weight"):
        static(path, tmp_path / "made" / "qdq.onnx", per_channel=True)
    assert list((tmp_path / "made").iterdir()) == []


def test_what_the_quantiser_refuses_is_one_line(layer_model: Make, tmp_path: Path) -> None:
    path = layer_model()
    (tmp_path / "config.json").write_text('{"vocab_size": 9999}')
    with pytest.raises(ExportError, match=r"layer\.onnx cannot be quantised by ONNX Runtime: ") as caught:
        static(path, tmp_path / "made" / "qdq.onnx", per_channel=True)
    assert "\n" not in str(caught.value)
