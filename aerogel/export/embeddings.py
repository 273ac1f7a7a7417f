"""Embedding tables in half precision or 8 bits: looked up as they are stored, and widened row by row.

    y[t] = float(data[id[t]]) scale[id[t]]

The look-up comes first, so nothing but the rows of a text is ever float32, in the file or in memory.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.plan import FP32
from aerogel.export.rewrite import constant
from aerogel.ops.value_type import VALUE_TYPES

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Table", "store_embeddings"]

# A table of fewer rows holds what very many tokens share, such as the segment: to round it moves them all the same
# way, which costs more accuracy than all other tables together, and saves nothing.
_FEW = 64


@dataclass(frozen=True)
class Table:
    """How one embedding table is stored.

    Attributes:
        shape: (rows, features).
        weights: type of its values.
        reason: reason, in words.
        bytes: as stored.
        rounded: what its values mean, float32 ``[rows, features]``.
    """

    shape: tuple[int, int]
    weights: str
    reason: str
    bytes: int
    rounded: np.ndarray


def store_embeddings(model: ir.Model, weights: str, parameters: Container[str]) -> dict[str, Table]:
    """Store the embedding tables of a simplified graph as `weights`, in place.

    Tables are the float32 matrices among the `parameters` of which rows are looked up. One that serves something
    else as well, a tied output layer for example, stays as it is.

    Returns:
        All tables by name.

    Raises:
        UsageError: no such weight type.
        ExportError: a table has values that it cannot store; names it.
    """
    tables = {}
    VALUE_TYPES.get(weights)
    for name, value in list(model.graph.initializers.items()):
        array = value.const_value.numpy() if name in parameters and value.const_value is not None else None
        if array is None or array.ndim != 2 or array.dtype != np.float32:
            continue
        uses = [use.node for use in value.uses()]
        lookups = [node for node in uses if _looks_up(node, value)]
        if not lookups:
            continue
        kind, reason = weights, "asked for"
        if len(lookups) < len(uses):
            other = next(node for node in uses if node not in lookups)
            kind, reason = FP32, f"also used by {other.op_type}"
        elif weights == "int8" and len(array) < _FEW:
            kind, reason = "fp16", f"fewer than {_FEW} rows"
        values, beside = VALUE_TYPES.get(kind).encode(array, name)
        size = values.nbytes + sum(extra.nbytes for extra in beside.values())
        tables[name] = Table(array.shape, kind, reason, size, VALUE_TYPES.get(kind).decode(values, beside))
        if kind != FP32:
            columns = {key: extra[:, None] for key, extra in beside.items()}
            for node in lookups:
                _replace(model, node, name, values, columns)
            del model.graph.initializers[name]
    return tables


def _looks_up(node: ir.Node, table: ir.Value) -> bool:
    """Whether `node` takes rows of `table`, and nothing else of it."""
    if node.op_type != "Gather" or node.domain or node.inputs[0] is not table or node.inputs[1] is table:
        return False
    axis = node.attributes.get("axis")
    return axis is None or axis.as_int() == 0


def _replace(
    model: ir.Model, lookup: ir.Node, name: str, values: np.ndarray, factors: dict[str, np.ndarray]
) -> None:
    """Look rows up in `values`, widen them, and multiply with the rows' own factors ``[rows, 1]``."""
    import onnx_ir as ir

    ids, output = lookup.inputs[1], lookup.outputs[0]
    rows = ir.node("Gather", [constant(model, f"{name}.data", values), ids])
    nodes = [rows, ir.node("Cast", rows.outputs, {"to": ir.DataType.FLOAT})]
    for key, factor in factors.items():
        factors_of = ir.node("Gather", [constant(model, f"{name}.{key}", factor), ids])
        nodes += [factors_of, ir.node("Mul", [nodes[-1].outputs[0], factors_of.outputs[0]])]
    last = nodes[-1].outputs[0]
    last.name, output.name = output.name, None
    last.type, last.shape = output.type, output.shape
    model.graph.insert_before(lookup, nodes)
    output.replace_all_uses_with(last, replace_graph_outputs=True)
    model.graph.remove(lookup, safe=True)
