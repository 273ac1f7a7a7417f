"""Rules for every export target. New targets are found by their file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from aerogel.errors import AerogelError, UsageError
from aerogel.export.target import TARGETS, GraphTarget
from aerogel.ops.functions import op_for
from aerogel.ops.linear_function import DOMAIN, IR_VERSION, OPSET
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.formats import FORMATS

GRAPHS = [name for name in TARGETS.names() if isinstance(TARGETS.get(name), GraphTarget)]


@pytest.fixture(params=GRAPHS)
def target(request: pytest.FixtureRequest) -> GraphTarget:
    found = TARGETS.get(request.param)
    assert isinstance(found, GraphTarget)
    return found


WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) * (np.arange(12).reshape(3, 4) % 3 == 0)


def constant(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    return ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
    )


def sparse_model(weights: str = "fp32") -> ir.Model:
    """y = x W^T + 1, with W in CSR and x ``[batch, 4]``."""
    function = op_for("csr", weights)
    stored, auxiliary = VALUE_TYPES.get(weights).encode(WEIGHT, "w")
    arrays = FORMATS.get("csr").encode(stored, WEIGHT != 0) | auxiliary
    values = [constant(name, array) for name, array in arrays.items()] + [
        constant("bias", np.ones(3, np.float32))
    ]
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 4]))
    node = ir.node(function.name, [x, *values], {"in_features": 4}, domain=DOMAIN)
    y = node.outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", 3])
    graph = ir.Graph(
        [x], [y], nodes=[node], initializers=values, opset_imports={"": OPSET, DOMAIN: 1}, name="g"
    )
    proto = ir.serde.deserialize_function(function.proto())
    return ir.Model(graph, ir_version=IR_VERSION, functions=[proto])


@pytest.mark.parametrize("inline", [False, True])
def test_every_runner_computes_the_model(target: GraphTarget, inline: bool, tmp_path: Path) -> None:
    path = tmp_path / f"model{target.suffix}"
    target.write(sparse_model(), path, inline=inline)
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
    runners = {name: run for name, run in target.runners(path).items() if not isinstance(run, str)}
    assert runners
    for name, run in runners.items():
        np.testing.assert_allclose(run({"x": x})["y"], x @ WEIGHT.T + 1, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("inline", [False, True])
def test_unrounded_does_not_round_activations(target: GraphTarget, inline: bool, tmp_path: Path) -> None:
    path = tmp_path / f"model{target.suffix}"
    target.write(sparse_model("int8"), path, inline=inline)
    value_type = VALUE_TYPES.get("int8")
    stored = value_type.decode(*value_type.encode(WEIGHT, "w"))
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
    exact = x @ stored.T + 1
    np.testing.assert_allclose(target.unrounded(path)({"x": x})["y"], exact, rtol=0, atol=1e-5)
    rounded = next(run for run in target.runners(path).values() if not isinstance(run, str))({"x": x})["y"]
    assert np.abs(rounded - exact).max() > 1e-4
    assert list(tmp_path.iterdir()) == [path]


def test_details_describe_inputs_and_outputs(target: GraphTarget, tmp_path: Path) -> None:
    details = target.write(sparse_model(), tmp_path / f"model{target.suffix}", inline=False)
    assert details["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}]
    assert details["outputs"] == [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}]


def test_write_creates_one_file_only(target: GraphTarget, tmp_path: Path) -> None:
    path = tmp_path / f"model{target.suffix}"
    target.write(sparse_model(), path, inline=False)
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_artifact_is_refused_by_name(target: GraphTarget, tmp_path: Path) -> None:
    path = tmp_path / f"model{target.suffix}"
    target.write(sparse_model(), path, inline=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AerogelError, match=path.name):
        target.runners(path)


def test_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown target 'onx'.*did you mean onnx"):
        TARGETS.get("onx")
