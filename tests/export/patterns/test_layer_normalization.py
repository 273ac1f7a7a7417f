from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from aerogel.export.pattern import canonicalize

VARIANCE = (
    "mean = ReduceMean (x, axes) d = Sub (x, mean) {square} v = ReduceMean (q, axes) "
    "e = Add (v, epsilon) s = Sqrt (e)"
)
POW, MUL = "q = Pow (d, two)", "q = Mul (d, d)"
NORMS = {
    "torch": f"{VARIANCE.format(square=POW)} n = Div (d, s) g = Mul (n, gamma) y = Add (g, beta)",
    "a second difference": f"{VARIANCE.format(square=MUL)} d2 = Sub (x, mean) n = Div (d2, s) g = Mul (gamma, n) "
    "y = Add (beta, g)",
    "tensorflow": f"{VARIANCE.format(square=MUL)} r = Reciprocal (s) i = Mul (r, gamma) g = Mul (x, i) "
    "h = Mul (mean, i) o = Sub (beta, h) y = Add (g, o)",
}
OTHERS = {
    "other axis": NORMS["torch"].replace("axes", "middle"),
    "cubed": NORMS["torch"].replace("two", "three"),
    "divided the other way": NORMS["torch"].replace("Div (d, s)", "Div (s, d)"),
    "another input": NORMS["torch"].replace("d = Sub (x, mean)", "t = Tanh (x) d = Sub (t, mean)"),
    "scale is no vector": NORMS["torch"].replace("gamma", "wide"),
    "large epsilon": NORMS["torch"].replace("epsilon", "three"),
    "tensorflow, another mean": NORMS["tensorflow"].replace("Mul (mean, i)", "Mul (x, i)"),
    "tensorflow, added": NORMS["tensorflow"].replace("Sub (beta, h)", "Sub (h, beta)"),
}


def graph(body: str) -> ir.Model:
    return ir.from_onnx_text(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[batch, sequence, 4] x) => (float[batch, sequence, 4] y)
        <int64[1] axes = {{-1}}, int64[1] middle = {{1}}, float two = {{2}}, float three = {{3}},
         float epsilon = {{0.001}}, float[4] gamma = {{1, 2, 3, 4}}, float[4] beta = {{0.5, 0, 1, -1}},
         float[1, 4] wide = {{1, 2, 3, 4}}> {{ {body} }}"""
    )


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("name", NORMS)
def test_arithmetic_becomes_one_node(name: str) -> None:
    model = graph(NORMS[name])
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    expected = run(model, x)
    canonicalize(model)
    (node,) = model.graph
    assert node.op_type == "LayerNormalization"
    assert node.attributes.get_float("epsilon") == pytest.approx(0.001)
    np.testing.assert_allclose(run(model, x), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_other_arithmetic_stays(name: str) -> None:
    model = graph(OTHERS[name])
    before = len(list(model.graph))
    canonicalize(model)
    assert len(list(model.graph)) == before
