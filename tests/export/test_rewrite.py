from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from aerogel import checkpoint
from aerogel.errors import ExportError
from aerogel.export.plan import StoragePlan, make_plan
from aerogel.export.rewrite import attach_functions, rewrite
from aerogel.ops.linear_function import DOMAIN
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.formats import FORMATS

HEADER = '<ir_version: 8, opset_import: ["" : 18]> g (float[n,2] x) => (float[n,3] y)'
WEIGHT = np.array([[1, 0], [0, 0], [0, 2]], np.float32)
CONSTANTS = "float[3,2] w = {1, 0, 0, 0, 0, 2}, float[3] b = {1, 2, 3}"


def choice(name: str = "w", weight: np.ndarray = WEIGHT, form: str = "csr") -> StoragePlan:
    arrays = FORMATS.get(form).encode(weight, weight != 0) if form != "dense" else {}
    return StoragePlan(name, weight, int((weight != 0).sum()), form, "", arrays, 2)


def rewritten(body: str, plan: dict[str, StoragePlan], constants: str = CONSTANTS) -> ir.Model:
    model = ir.from_onnx_text(f"{HEADER} <{constants}> {{ {body} }}")
    rewrite(model, plan)
    attach_functions(model, plan)
    return model


def outputs(model: ir.Model, x: np.ndarray) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0]


LINEARS = {
    "matmul": "t = Transpose <perm = [1, 0]> (w) p = MatMul (x, t) y = Add (b, p)",
    "gemm": "y = Gemm <transB = 1> (x, w, b)",
    "matmul without bias": "t = Transpose <perm = [1, 0]> (w) y = MatMul (x, t)",
}


@pytest.mark.parametrize("form", ["csr", "bsr"])
@pytest.mark.parametrize("which", LINEARS)
def test_linear_layer_becomes_a_call_of_the_same_value(which: str, form: str) -> None:
    model = rewritten(LINEARS[which], {"w": choice(form=form)})
    (node,) = model.graph
    assert (node.domain, node.op_type) == (DOMAIN, f"{form.capitalize()}Linear_v1")
    assert node.attributes["in_features"].as_int() == 2
    bias = "w.no_bias" if "without" in which else "b"
    assert [value.name for value in node.inputs] == ["x", "w.data", "w.indices", "w.indptr", bias]
    assert node.outputs[0] is model.graph.outputs[0]
    assert node.outputs[0].name == "y"
    assert "w" not in model.graph.initializers
    x = np.array([[1, 10], [3, -1]], np.float32)
    expected = x @ WEIGHT.T + ([0, 0, 0] if "without" in which else [1, 2, 3])
    np.testing.assert_array_equal(outputs(model, x), expected)


@pytest.mark.parametrize("form", ["csr", "bsr"])
@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_values_of_other_types_are_inputs_of_their_own_functions(form: str, weights: str) -> None:
    values, beside = VALUE_TYPES.get(weights).encode(WEIGHT, "w")
    arrays = FORMATS.get(form).encode(values, WEIGHT != 0) | beside
    model = rewritten(LINEARS["gemm"], {"w": StoragePlan("w", WEIGHT, 2, form, "", arrays, 2, weights)})
    (node,) = model.graph
    assert node.op_type == f"{form.capitalize()}Linear{weights.capitalize()}_v1"
    assert [value.name for value in node.inputs] == ["x", *(f"w.{name}" for name in arrays), "b"]
    # Powers of two and 127 lose nothing in either type.
    x = np.array([[127, 10], [3, -127]], np.float32)
    np.testing.assert_allclose(outputs(model, x), x @ WEIGHT.T + [1, 2, 3], rtol=2**-22)


def test_matrix_of_several_layers_is_stored_once() -> None:
    body = (
        "t = Transpose <perm = [1, 0]> (w) p = MatMul (x, t) q = Add (p, b) "
        "u = Transpose <perm = [1, 0]> (w) r = MatMul (x, u) y = Add (q, r)"
    )
    model = rewritten(body, {"w": choice()})
    assert Counter(node.op_type for node in model.graph) == {"CsrLinear_v1": 2, "Add": 1}
    assert {name for name in model.graph.initializers if name.startswith("w")} == {
        "w.data", "w.indices", "w.indptr", "w.no_bias",
    }  # fmt: skip
    x = np.array([[1, 10]], np.float32)
    np.testing.assert_array_equal(outputs(model, x), 2 * x @ WEIGHT.T + [1, 2, 3])


def test_dense_choice_changes_nothing() -> None:
    model = rewritten(LINEARS["gemm"], {"w": choice(form="dense")})
    assert [node.op_type for node in model.graph] == ["Gemm"]
    assert not model.functions
    assert DOMAIN not in model.opset_imports


def test_pruned_matrix_that_is_not_in_the_graph_is_named() -> None:
    with pytest.raises(ExportError, match=r"layer\.3\.weight is pruned but not in the captured graph"):
        rewritten(LINEARS["gemm"], {"layer.3.weight": choice("layer.3.weight")})


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_matrix_that_differs_in_one_entry_is_named(form: str) -> None:
    other = WEIGHT.copy()
    other[2, 1] = np.nextafter(np.float32(2), np.float32(3))
    with pytest.raises(ExportError, match="w in the captured graph differs"):
        rewritten(LINEARS["gemm"], {"w": choice(weight=other, form=form)})


def test_a_value_that_is_no_number_is_no_difference() -> None:
    weight = np.array([[1, 0], [0, 0], [0, np.nan]], np.float32)
    model = ir.from_onnx_text(f"{HEADER} <{CONSTANTS}> {{ {LINEARS['gemm']} }}")
    model.graph.initializers["w"].const_value = ir.tensor(weight, name="w")
    rewrite(model, {"w": choice(weight=weight)})
    assert [node.op_type for node in model.graph] == ["CsrLinear_v1"]


@pytest.mark.parametrize(
    ("body", "culprit"),
    [
        ("p = Gemm <transB = 1> (x, w, b) t = Transpose (w) s = ReduceSum (t) y = Add (p, s)", "Transpose"),
        ("y = Gemm <transB = 1, alpha = 2.0> (x, w, b)", "Gemm"),
        ("p = Gemm <transB = 1> (x, w, b) s = ReduceMax (w) y = Add (p, s)", "ReduceMax"),
    ],
)  # fmt: skip
def test_matrix_that_is_used_otherwise_is_named_with_its_user(body: str, culprit: str) -> None:
    with pytest.raises(ExportError, match=f"w is used by {culprit}.*--format dense"):
        rewritten(body, {"w": choice()})


def test_every_pruned_matrix_of_an_encoder_is_found(captured: Callable[..., Any]) -> None:
    path, _, model = captured("bert")
    plan = make_plan(checkpoint.load(path), "csr")
    dense = next(iter(plan))
    plan[dense] = replace(plan[dense], format="dense", arrays={})
    rewrite(model, plan)
    calls = {node.name for node in model.graph if node.domain == DOMAIN}
    assert calls == {name.removesuffix(".weight") for name in plan} - {dense.removesuffix(".weight")}
