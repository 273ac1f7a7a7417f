from __future__ import annotations

import onnx_ir as ir
import pytest

from aerogel.export.rules.gemm import RULE

CONSTANTS = (
    "float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2,3] v = {1, 2, 3, 4, 5, 6}, "
    "float[3] b = {1, 2, 3}, float[1] s = {1}"
)


def match(node: str) -> object:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[n,2] x) => (float[n,3] y) <{CONSTANTS}> {{ {node} }}'
    return RULE.match(ir.from_onnx_text(text).graph[0])


@pytest.mark.parametrize("attributes", ["transB = 1", "transB = 1, transA = 0, alpha = 1.0, beta = 1.0"])
def test_linear_layer(attributes: str) -> None:
    linear = match(f"y = Gemm <{attributes}> (x, w, b)")
    assert linear is not None
    assert (linear.x.name, linear.weight.name, linear.bias.name, linear.output.name) == ("x", "w", "b", "y")


def test_linear_layer_without_bias() -> None:
    linear = match("y = Gemm <transB = 1> (x, w)")
    assert linear is not None
    assert linear.bias is None


@pytest.mark.parametrize(
    "node",
    [
        "y = Gemm (x, v, b)",
        "y = Gemm <transB = 1, alpha = 2.0> (x, w, b)",
        "y = Gemm <transB = 1, beta = 0.5> (x, w, b)",
        "y = Gemm <transA = 1, transB = 1> (x, w, b)",
        "y = Gemm <transB = 1> (x, w, s)",
        "y = Gemm <transB = 1> (w, x, b)",
        "y = MatMul (x, v)",
    ],
)
def test_other_products_do_not_match(node: str) -> None:
    assert match(node) is None
