"""Expansions: replace operators of ONNX Runtime's own domain by standard ones, which mean the same everywhere.

``onnxruntime.transformers.optimizer`` and ONNX Runtime's saved optimised models write such operators.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aerogel.export.build import Builder, splice
from aerogel.export.dims import Dims
from aerogel.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["DOMAIN", "EXPANSIONS", "Expansion", "expand", "input_of"]

DOMAIN = "com.microsoft"


class Expansion(ABC):
    """One operator. A module of ``expansions/`` defines ``EXPANSION``; its file is named as the operator is."""

    @abstractmethod
    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """Build what `node` computes.

        Args:
            node: a node of the operator.
            build: takes the nodes.

        Returns:
            The new value by output index, for every output that is read; None if `node` uses a form of the operator
            that has no expansion. It then stays as it is.
        """


EXPANSIONS: Registry[Expansion] = Registry("expansion", "aerogel.export.expansions", "EXPANSION")


def expand(model: ir.Model) -> None:
    """Replace every operator of ONNX Runtime's domain that has an expansion. In place.

    An expansion may build nodes that have expansions themselves.
    """
    import onnx_ir as ir

    known = set(EXPANSIONS.names())
    dims = Dims(ir.Graph([], [], nodes=[]))
    queue = deque(model.graph)
    while queue:
        node = queue.popleft()
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", node.op_type).lower()
        built = _expanded(node, name, dims) if node.domain == DOMAIN and name in known else None
        if built is None:
            dims.visit(node)
            continue
        build, results = built
        splice(model.graph, node, build.nodes, results)
        queue.extendleft(reversed(build.nodes))
    if not any(node.domain == DOMAIN for node in model.graph):
        model.graph.opset_imports.pop(DOMAIN, None)
    _infer_types(model)


def _infer_types(model: ir.Model) -> None:
    """Find the types and shapes of what follows operators that ONNX does not know."""
    import onnx_ir.passes.common as passes

    unknown = [value for node in model.graph for value in node.outputs if value.type is None]
    for value in unknown:
        value.shape = None
    if unknown:
        passes.ShapeInferencePass()(model)


def _expanded(node: ir.Node, name: str, dims: Dims) -> tuple[Builder, dict[ir.Value, ir.Value]] | None:
    """What replaces a node, and the new value of each of its outputs that is read."""
    import onnx_ir as ir

    for value in node.inputs:
        if value is not None and value.shape is None and (found := dims.of(value)) is not None:
            value.shape = ir.Shape(found)
    build = Builder((node.name or node.outputs[0].name or node.op_type).rpartition("/")[0])
    results = EXPANSIONS.get(name).expand(node, build)
    used = [index for index, value in enumerate(node.outputs) if value.uses() or value.is_graph_output()]
    if results is None or not set(used) <= set(results):
        return None
    return build, {node.outputs[index]: results[index] for index in used}


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """An optional input; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None
