from __future__ import annotations

import onnx_ir as ir
import pytest

from aerogel.export.rules.matmul import RULE

HEADER = '<ir_version: 8, opset_import: ["" : 18]> g (float[n,2] x) => (float[n,3] y)'
WEIGHT = "float[3,2] w = {1, 2, 3, 4, 5, 6}"
BIAS = "float[3] b = {1, 2, 3}"
TRANSPOSE = "t = Transpose <perm = [1, 0]> (w)"


def find(constants: str, *nodes: str, header: str = HEADER) -> tuple[ir.Model, list]:
    model = ir.from_onnx_text(f"{header} <{constants}> {{ {' '.join(nodes)} }}")
    return model, [linear for node in model.graph if (linear := RULE.match(node))]


@pytest.mark.parametrize("operands", ["p, b", "b, p"])
def test_linear_layer_with_bias(operands: str) -> None:
    model, found = find(f"{WEIGHT}, {BIAS}", TRANSPOSE, "p = MatMul (x, t)", f"y = Add ({operands})")
    (linear,) = found
    assert (linear.x.name, linear.weight.name, linear.bias.name, linear.output.name) == ("x", "w", "b", "y")
    assert [node.op_type for node in linear.nodes] == ["MatMul", "Add"]
    assert linear.x is model.graph.inputs[0]


def test_linear_layer_without_bias() -> None:
    _, (linear,) = find(WEIGHT, TRANSPOSE, "y = MatMul (x, t)")
    assert linear.bias is None
    assert linear.output.name == "y"


@pytest.mark.parametrize(
    "last",
    [
        "s = Constant <value = float {1.0}> () y = Add (p, s)",  # a scalar is not a bias
        "y = Add (p, p)",
        "y = Mul (p, b)",
    ],
)
def test_other_nodes_may_follow_the_product(last: str) -> None:
    _, (linear,) = find(f"{WEIGHT}, {BIAS}", TRANSPOSE, "p = MatMul (x, t)", last)
    assert linear.bias is None
    assert linear.output.name == "p"


def test_add_is_excluded_if_the_product_has_two_readers() -> None:
    _, (linear,) = find(
        f"{WEIGHT}, {BIAS}", TRANSPOSE, "p = MatMul (x, t)", "q = Add (p, b)", "y = Add (q, p)"
    )
    assert linear.bias is None
    assert linear.output.name == "p"


def test_add_is_excluded_if_the_product_is_an_output() -> None:
    header = HEADER.replace("float[n,3] y", "float[n,3] y, float[n,3] p")
    _, (linear,) = find(f"{WEIGHT}, {BIAS}", TRANSPOSE, "p = MatMul (x, t)", "y = Add (p, b)", header=header)
    assert linear.bias is None


@pytest.mark.parametrize(
    "nodes",
    [
        ("y = MatMul (x, v)",),  # not transposed
        ("t = Transpose <perm = [0, 1]> (v)", "y = MatMul (x, t)"),
        ("t = Transpose <perm = [1, 0]> (x)", "y = MatMul (x, t)"),  # not a constant
        ("t = Transpose <perm = [1, 0]> (w)", "u = MatMul (v, x)", "y = MatMul (u, x)"),
    ],
)
def test_other_products_do_not_match(nodes: tuple[str, ...]) -> None:
    _, found = find(f"{WEIGHT}, float[2,3] v = {{1, 2, 3, 4, 5, 6}}", *nodes)
    assert not found
