from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from aerogel import runtime
from aerogel.export.plan import make_plan
from aerogel.export.rewrite import attach_functions, rewrite
from aerogel.export.simplify import simplify


def fused(model: ir.Model, folder: Path) -> Counter[str]:
    """Operators of a model after stock ONNX Runtime's graph optimizations, with Aerogel's session options."""
    options = runtime.session_options(threads=1)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ir.save(model, folder / "model.onnx")
    runtime.session(folder / "model.onnx", library=False, options=options)
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("form", ["dense", "csr", "bsr"])
def test_fusions_of_onnx_runtime_apply(captured: Callable[..., Any], form: str, tmp_path: Path) -> None:
    from aerogel import checkpoint

    path, _, model = captured("bert")
    plan = make_plan(checkpoint.load(path), form)
    rewrite(model, plan)
    simplify(model)
    attach_functions(model, plan)
    ops = fused(model, tmp_path)
    layers = 2
    assert ops["BiasGelu"] == layers
    assert ops["LayerNormalization"] == 1 + 2 * layers
    assert ops["Softmax"] == layers
    # Six linear layers and two products of attention; the scale of the scores is fused into the first of these.
    assert ops["MatMul"] + ops["FusedMatMul"] == 8 * layers
    assert ops["FusedMatMul"] == layers
    # Operators that rebuild a weight; all must be folded.
    assert not {"ScatterElements", "ScatterND", "CumSum", "Erf", "Identity", "Expand"} & set(ops)
    # The mask is computed once for all layers.
    assert ops["Sub"] == ops["Cast"] == 1


def test_metadata_and_doc_strings_are_removed(captured: Callable[..., Any]) -> None:
    _, _, model = captured("bert")
    simplify(model)
    text = ir.to_proto(model).SerializeToString()
    assert str(Path(__file__).parents[2]).encode() not in text
    assert b"site-packages" not in text
    assert b"aten" not in text


def test_dense_weights_are_stored_transposed(captured: Callable[..., Any]) -> None:
    _, source, model = captured("bert")
    simplify(model)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    stored = model.graph.initializers[f"{name}.transposed"].const_value
    assert stored is not None
    np.testing.assert_array_equal(stored.numpy(), source.model.state_dict()[name].T.numpy())
    assert name not in model.graph.initializers


GELU = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n] x) => (float[n] y)
<float root = {1.4142135}, float one = {1.0}, float half = {0.5}>
{
  a = Div (x, root)
  b = Erf (a)
  c = Add (b, one)
  d = Mul (BRACKET)
  y = Mul (OUTER)
}
"""


@pytest.mark.parametrize("bracket", ["half, c", "c, half"])
@pytest.mark.parametrize("outer", ["x, d", "d, x"])
def test_gelu_is_reordered_with_bit_equal_results(bracket: str, outer: str, tmp_path: Path) -> None:
    text = GELU.replace("BRACKET", bracket).replace("OUTER", outer)
    before, after = ir.from_onnx_text(text), ir.from_onnx_text(text)
    simplify(after)
    assert fused(after, tmp_path)["Gelu"] == 1
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    one, other = (
        onnxruntime.InferenceSession(ir.to_proto(m).SerializeToString(), options, providers=["CPUExecutionProvider"])
        .run(None, {"x": x})[0]
        for m in (before, after)
    )  # fmt: skip
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("bracket", "outer"),
    [("half, one", "x, d"), ("c, root", "x, d"), ("half, c", "a, d"), ("half, c", "d, d")],
)
def test_similar_graphs_keep_their_values(bracket: str, outer: str) -> None:
    text = GELU.replace("BRACKET", bracket).replace("OUTER", outer)
    before, after = ir.from_onnx_text(text), ir.from_onnx_text(text)
    simplify(after)
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    one, other = (
        onnxruntime.InferenceSession(ir.to_proto(m).SerializeToString(), providers=["CPUExecutionProvider"])
        .run(None, {"x": x})[0]
        for m in (before, after)
    )  # fmt: skip
    np.testing.assert_allclose(one, other, rtol=1e-6)
