"""Dimensions of a graph's values, followed through Shape, Gather, Concat and Reshape as exporters write them.

A dimension is a number, the name of a dynamic one, or None where it is unknown. Equal names are equal numbers in every
run. Batch and sequence length of a model's inputs are called `BATCH` and `SEQUENCE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export._dim_rules import SHAPE_RULES, VECTOR_RULES, Dim, Known

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["BATCH", "SEQUENCE", "Dim", "Dims", "name_inputs"]

BATCH, SEQUENCE = "batch", "sequence"
# Longer constants are no shapes.
_LONGEST_VECTOR = 8


class Dims:
    """Dimensions of all values of a graph, and the contents of its vectors of dimensions.

    Args:
        graph: nodes that are added later are known after `visit`.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._shapes: dict[ir.Value, list[Dim]] = {}
        self._vectors: dict[ir.Value, list[Dim]] = {}
        for node in graph:
            self.visit(node)

    def of(self, value: ir.Value | None) -> list[Dim] | None:
        """The dimensions of a value; None if not even their number is known."""
        if value is None:
            return None
        if value not in self._shapes:
            if value.const_value is not None:
                self._shapes[value] = [int(size) for size in value.const_value.shape.numpy()]
            elif value.shape is not None:
                self._shapes[value] = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        return self._shapes.get(value)

    def vector(self, value: ir.Value | None) -> list[Dim] | None:
        """The elements of a vector, or of a scalar, of dimensions; None if their number is not known."""
        if value is None:
            return None
        constant = value.const_value
        if value not in self._vectors and constant is not None and constant.size <= _LONGEST_VECTOR:
            array = constant.numpy()
            if array.ndim <= 1 and array.dtype.kind in "iub":
                self._vectors[value] = [int(element) for element in array.ravel()]
        return self._vectors.get(value)

    def visit(self, node: ir.Node) -> None:
        """Find the dimensions of a node's outputs."""
        if node.op_type == "Constant" and not node.domain and node.outputs[0].const_value is None:
            tensor = node.attributes.get("value")
            node.outputs[0].const_value = tensor.as_tensor() if tensor is not None else None
        known = Known(node, self.of, self.vector)
        key = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        vector = VECTOR_RULES.get(key)
        if vector is not None and (elements := _apply(vector, known)) is not None:
            self._vectors[node.outputs[0]] = list(elements)
        rule = SHAPE_RULES.get(key) or SHAPE_RULES.get(f"{node.domain}.*")
        found = _apply(rule, known) if rule is not None else None
        if found is not None and node.outputs:
            stated = self.of(node.outputs[0])
            if stated is not None and len(stated) == len(found):
                found = [one if one is not None else two for one, two in zip(found, stated, strict=True)]
            self._shapes[node.outputs[0]] = list(found)

    def write(self) -> None:
        """State the dimensions that were found in the graph."""
        import onnx_ir as ir

        for value, dims in self._shapes.items():
            if value.const_value is None and value.type is not None and not value.is_graph_input():
                value.shape = ir.Shape(dims)


def _apply(rule: Callable[[Known], Sequence[Dim] | None], known: Known) -> Sequence[Dim] | None:
    try:
        return rule(known)
    except (IndexError, TypeError, KeyError, ValueError):
        return None  # an input of an unknown or unusual form


def name_inputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Call the dynamic dimensions of a text encoder's inputs `BATCH` and `SEQUENCE`, also in its outputs. In place.

    Exporters give them any names, or none. All of `names` are ``[batch, sequence]``.
    """
    import onnx_ir as ir

    renamed: dict[str, str] = {}
    for value in graph.inputs:
        if value.name not in names or value.shape is None or len(value.shape) != 2:
            continue
        dims = []
        for dim, name in zip(value.shape, (BATCH, SEQUENCE), strict=True):
            if not isinstance(dim, int) and dim.value is not None:
                renamed.setdefault(str(dim.value), name)
            dims.append(dim if isinstance(dim, int) else name)
        value.shape = ir.Shape(dims)
    for value in _values(graph):
        if value.shape is not None:
            _rename(value, renamed)


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.outputs, *(value for node in graph for value in node.outputs)]


def _rename(value: ir.Value, renamed: Mapping[str, str]) -> None:
    import onnx_ir as ir

    assert value.shape is not None
    value.shape = ir.Shape(
        [
            dim if isinstance(dim, int) else renamed.get(str(dim.value), dim.value) if dim.value else None
            for dim in value.shape
        ]
    )


def as_array(dims: Sequence[Dim]) -> np.ndarray | None:
    """A vector of dimensions that are all known, as int64; None if one is not a number."""
    numbers = [dim for dim in dims if isinstance(dim, int)]
    return np.array(numbers, np.int64) if len(numbers) == len(dims) else None
