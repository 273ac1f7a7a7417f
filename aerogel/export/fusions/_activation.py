"""Which activation some nodes compute, told by their values: there are many ways to write each."""

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
"""The activations that ``Encoder_v1`` knows, by the value of its attribute."""

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
# The nearest two, gelu and gelu_tanh, are 5e-4 apart; constants in float32 move a value by 1e-7 of it.
_GRID = np.linspace(-8.0, 8.0, 321)
_TOLERANCE = 1e-5


def activation(x: ir.Value, y: ir.Value) -> tuple[str, list[ir.Node]]:
    """Name of the function that leads from `x` to `y` element by element, and the nodes that compute it.

    Raises:
        Mismatch: something else than `x` and constants goes into it, or it is none of `ACTIVATIONS`.
    """
    last = y.producer()
    assert last is not None  # y depends on x, or on an input that is met below
    nodes: dict[ir.Node, None] = {}
    found = _values(y, last, x, nodes)
    for name, function in ACTIVATIONS.items():
        if np.abs(found - function(_GRID)).max() < _TOLERANCE:
            return name, list(nodes)
    raise Mismatch(last, f"ends an activation that is none of {', '.join(ACTIVATIONS)}")


def _values(value: ir.Value, reader: ir.Node, x: ir.Value, nodes: dict[ir.Node, None]) -> Array:
    """What `value` is where `x` is `_GRID`; notes the nodes it takes."""
    if value is x:
        return _GRID
    constant = scalar(value)
    if constant is not None:
        return np.array(constant)
    node = value.producer()
    if node is None:
        raise Mismatch(reader, f"reads {value.name}, which is no part of an activation")
    # Told before its inputs are looked at: beyond the activation lies the whole model.
    function = None if node.domain else _OPERATORS.get(node.op_type)
    if function is _gelu and node.attributes.get_string("approximate", "none") == "tanh":
        function = _gelu_tanh
    if function is None:
        raise Mismatch(node, "is no part of an activation that is known")
    inputs = [_values(operand(node, index), node, x, nodes) for index in range(len(node.inputs))]
    nodes[node] = None
    return function(*inputs)
