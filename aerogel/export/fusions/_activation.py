"""Recognize an activation by evaluating its nodes, because each can be written in many ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.fusions._graph import Mismatch, operand, scalar

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ACTIVATIONS", "activation"]

Array = np.ndarray


def _erf(x: Array) -> Array:
    return np.array([math.erf(value) for value in x.ravel()]).reshape(x.shape)


def _gelu(x: Array) -> Array:
    return x * (0.5 + 0.5 * _erf(x / math.sqrt(2)))


def _gelu_tanh(x: Array) -> Array:
    return x * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _relu(x: Array) -> Array:
    return x * (x > 0)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
}
"""The activations of ``Encoder_v1``, by the value of its attribute."""

_OPERATORS: Mapping[str, Callable[..., Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "Erf": _erf,
    "Gelu": _gelu,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Relu": _relu,
    "Sub": np.subtract,
    "Tanh": np.tanh,
}
# gelu and gelu_tanh, the closest two, differ by 5e-4; float32 constants change a value by a relative 1e-7.
_GRID = np.linspace(-8.0, 8.0, 321)
_TOLERANCE = 1e-5


def activation(x: ir.Value, y: ir.Value) -> tuple[str, list[ir.Node]]:
    """Name of the elementwise activation with input `x` and output `y`, and the nodes that compute it.

    Raises:
        Mismatch: `y` depends on anything but `x` and constants, or the function is not one of `ACTIVATIONS`.
    """
    last = y.producer()
    assert last is not None  # `y` is read by a product and computed by a node
    nodes: dict[ir.Node, None] = {}
    found = _values(y, last, x, nodes)
    for name, function in ACTIVATIONS.items():
        if np.abs(found - function(_GRID)).max() < _TOLERANCE:
            return name, list(nodes)
    raise Mismatch(last, f"ends an unknown activation; the known ones are {', '.join(ACTIVATIONS)}")


def _values(value: ir.Value, reader: ir.Node, x: ir.Value, nodes: dict[ir.Node, None]) -> Array:
    """Values of `value` when `x` is `_GRID`; adds the nodes that compute it to `nodes`."""
    if value is x:
        return _GRID
    constant = scalar(value)
    if constant is not None:
        return np.array(constant)
    node = value.producer()
    if node is None:
        raise Mismatch(reader, f"reads {value.name}, which is not part of an activation")
    # Check the node before its inputs: beyond the activation is the whole model.
    function = None if node.domain else _OPERATORS.get(node.op_type)
    if function is _gelu and node.attributes.get_string("approximate", "none") == "tanh":
        function = _gelu_tanh
    if function is None:
        raise Mismatch(node, "is not part of a known activation")
    inputs = [_values(operand(node, index), node, x, nodes) for index in range(len(node.inputs))]
    nodes[node] = None
    return function(*inputs)
