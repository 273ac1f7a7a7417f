"""Replace the linear layers of packed matrices by calls of the functions that carry them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

import numpy as np

from aerogel.errors import ExportError
from aerogel.export.linear import Linear, linears
from aerogel.export.plan import DENSE, StoragePlan
from aerogel.ops.functions import op_for
from aerogel.ops.linear_function import DOMAIN, OPSET

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["attach_functions", "constant", "rewrite"]


def rewrite(model: ir.Model, plan: Mapping[str, StoragePlan]) -> set[str]:
    """Replace, in place, every linear layer whose weight the plan stores packed.

    Returns:
        Names of unpruned matrices that are left alone: something else than a linear layer uses them.

    Raises:
        ExportError: a pruned matrix is not in the graph, differs from the checkpoint's, or is used by something
            that no rule recognises as a linear layer.
    """
    found = list(linears(model))
    known = {linear.weight.name for linear in found}
    # A model that nobody pruned may use a matrix in its own ways: it stays as it is.
    skipped = {
        name
        for name, matrix in plan.items()
        if matrix.kept == matrix.weight.size and not _replaceable(model, name, known)
    }
    plan = {name: matrix for name, matrix in plan.items() if name not in skipped}
    for choice in plan.values():
        _check_value(model, choice)
    packed = {name: choice for name, choice in plan.items() if choice.format != DENSE}
    for linear in found:
        if linear.weight.name in packed:
            _replace(model, linear, packed[linear.weight.name])
    _drop_dead_transposes(model, packed)
    for name in packed:
        weight = model.graph.initializers[name]
        if left := [use.node for use in weight.uses()]:
            raise ExportError(
                f"{name} is used by {left[0].op_type} node {left[0].name}, which is no linear layer that the "
                "export knows; export it with --format dense"
            )
        del model.graph.initializers[name]
    return skipped


def _replaceable(model: ir.Model, name: str, known: Container[str | None]) -> bool:
    """Whether a matrix is in the graph, and linear layers are all that use it."""
    value = model.graph.initializers.get(name)
    if value is None or name not in known:
        return False
    users = [use.node for use in value.uses()]
    return all(node.op_type in ("Transpose", "Gemm") for node in users)


def attach_functions(model: ir.Model, plan: Mapping[str, StoragePlan]) -> None:
    """Add the functions that the model calls, and import their domain."""
    import onnx_ir as ir

    kinds = {(choice.format, choice.weights) for choice in plan.values() if choice.format != DENSE}
    for kind in sorted(kinds):
        function = ir.serde.deserialize_function(op_for(*kind).proto())
        # The bodies mean the same in every operator set from 18 on, and a model and its functions must agree.
        function.opset_imports[""] = max(OPSET, model.graph.opset_imports.get("", OPSET))
        model.functions[function.identifier()] = function
        model.graph.opset_imports[DOMAIN] = 1


def _check_value(model: ir.Model, choice: StoragePlan) -> None:
    """The graph has the matrix under its name, of the values that the checkpoint has."""
    value = model.graph.initializers.get(choice.name)
    if value is None or value.const_value is None:
        raise ExportError(
            f"{choice.name} is pruned but not in the captured graph, so no exported output depends on it; leave it "
            "unpruned"
        )
    if not np.array_equal(value.const_value.numpy(), choice.weight, equal_nan=True):
        raise ExportError(
            f"{choice.name} in the captured graph differs from the checkpoint's; the capture is wrong"
        )


def _replace(model: ir.Model, linear: Linear, choice: StoragePlan) -> None:
    import onnx_ir as ir

    function = op_for(choice.format, choice.weights)
    bias = linear.bias or constant(model, f"{choice.name}.no_bias", np.zeros(choice.shape[0], np.float32))
    packed = [constant(model, f"{choice.name}.{name}", choice.arrays[name]) for name in function.arrays]
    # Not linear.x: if that was the output of another linear layer, that layer was replaced meanwhile.
    node = ir.node(
        function.name, [linear.nodes[0].inputs[0], *packed, bias], {"in_features": choice.shape[1]}, domain=DOMAIN,
        name=choice.name.removesuffix(".weight"),
    )  # fmt: skip
    node.outputs[0].name, linear.output.name = linear.output.name, None
    node.outputs[0].type, node.outputs[0].shape = linear.output.type, linear.output.shape
    model.graph.insert_before(linear.nodes[-1], node)
    linear.output.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    model.graph.remove(reversed(linear.nodes), safe=True)


def constant(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """The initializer of that name, made on its first use: a weight may serve several layers."""
    import onnx_ir as ir

    if name not in model.graph.initializers:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
        )
        model.graph.register_initializer(value)
    return model.graph.initializers[name]


def _drop_dead_transposes(model: ir.Model, plan: Mapping[str, StoragePlan]) -> None:
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "Transpose" else None
        if source is not None and source.name in plan and not node.outputs[0].uses():
            model.graph.remove(node, safe=True)
