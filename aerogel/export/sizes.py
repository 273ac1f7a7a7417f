"""Bytes of an artifact by part: encoder layers, embeddings, and all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.hf.names import layer_number
from aerogel.ops.linear_function import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["part_sizes"]


def part_sizes(model: ir.Model, total: int) -> dict[str, int]:
    """Bytes of the weights of each part of a rewritten graph.

    Args:
        model: the graph.
        total: bytes of the whole artifact.

    Returns:
        ``encoder``: weights of numbered layers: matrices as stored, biases, normalizations. ``embeddings``: tables in
        which rows are looked up, with their scales. ``other``: the rest of the file: heads, the graph itself.
    """
    found = {"encoder": 0, "embeddings": 0}
    for name, value in model.graph.initializers.items():
        users = [use.node for use in value.uses()]
        if value.const_value is None:
            continue
        if layer_number(f".{name}") is not None or any(node.domain == DOMAIN for node in users):
            found["encoder"] += value.const_value.nbytes
        elif users and all(_looks_up(node, value) for node in users):
            found["embeddings"] += value.const_value.nbytes
    return {**found, "other": total - sum(found.values())}


def _looks_up(node: ir.Node, table: ir.Value) -> bool:
    return node.op_type == "Gather" and not node.domain and node.inputs[0] is table
