"""Bring an ONNX graph of another exporter into the one form that the rewrite rules know.

Linear layers are found by structure. Each of these becomes ``MatMul(x, Transpose(W))`` with a float32 W ``[out, in]``:

* a MatMul or Gemm whose right side is constant, stored either way round, in float32 or float16;
* one whose weight is a constant behind DequantizeLinear, Cast or Identity (QDQ), or a product of two constants, as
  torch.nn.utils.prune and NNCF leave a weight and its mask;
* MatMulInteger and QLinearMatMul with a constant weight: activations stay rounded, the weight becomes float.

Operators of ONNX Runtime's own domain become standard ones (`aerogel.export.expansion`), and the target shapes of
Reshape become constants where the dimensions of the graph determine them. Everything else stays as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.build import Builder, splice
from aerogel.export.expansion import expand
from aerogel.export.linear import only_user
from aerogel.export.pattern import canonicalize

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MAKERS_OF_CONSTANTS", "has_halves", "normalize"]

MAKERS_OF_CONSTANTS = ("DequantizeLinear", "Cast", "Identity", "Mul", "Transpose")
"""Operators through which a constant weight is followed to its values."""

_FLOAT = 1
_GENERATED = re.compile(r"^(onnx::)?\w*?_?\d+$|^_v_|^val_")


def normalize(model: ir.Model) -> None:
    """See the module's docstring. In place."""
    import onnx_ir.passes.common as passes

    _widen_halves(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    expand(model)
    canonicalize(model)
    for node in list(model.graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "MatMulInteger":
            _integers_to_float(model, node)
        elif node.op_type == "QLinearMatMul":
            _qlinear_to_float(model, node)
    names = _Names(model)
    for node in list(model.graph):
        if node.domain in ("", "ai.onnx") and node.op_type in ("MatMul", "Gemm"):
            _transpose_weight(model, node, names)


class _Names:
    """Names of weights: those of the file, or, where an exporter made them up, from the node that multiplies."""

    def __init__(self, model: ir.Model) -> None:
        self.taken = set(model.graph.initializers)

    def make(self, weight: str, node: ir.Node) -> str:
        """A new name for the matrix that was called `weight` and is multiplied by `node`."""
        name = weight
        if _GENERATED.match(weight):
            name = _name_of_bias(node) or _name_of_path(str(node.name or node.outputs[0].name)) or weight
        name = re.sub(r"\.transposed$|_transposed$|_quantized$|_orig$", "", name)
        unique, number = name, 1
        while unique in self.taken:
            number += 1
            unique = f"{name}.{number}"
        self.taken.add(unique)
        return unique


def _name_of_bias(node: ir.Node) -> str:
    """The name of a weight whose bias has a name: ``layer.0.query.weight`` beside ``layer.0.query.bias``."""
    add = only_user(node.outputs[0])
    biases = [*node.inputs[2:], *(add.inputs if add is not None and add.op_type == "Add" else ())]
    names = (str(value.name) for value in biases if value is not None and value.is_initializer())
    return next((name.removesuffix("bias") + "weight" for name in names if name.endswith(".bias")), "")


def _name_of_path(path: str) -> str:
    """``layer.0.query.weight`` of ``/layer.0/query/MatMul``, as torch.onnx names nodes; empty for other names."""
    parts = [part for part in path.split("/") if part]
    return ".".join([*parts[:-1], "weight"]) if "/" in path and len(parts) > 1 else ""


def constant_of(value: ir.Value | None) -> np.ndarray | None:
    """The values of a constant behind any number of `MAKERS_OF_CONSTANTS`; None for anything else."""
    if value is None:
        return None
    if value.const_value is not None:
        array: np.ndarray = value.const_value.numpy()
        return array
    node = value.producer()
    if node is None or node.op_type not in MAKERS_OF_CONSTANTS or node.domain not in ("", "ai.onnx"):
        return None
    array_in: np.ndarray | None = constant_of(node.inputs[0])
    if array_in is None:
        return None
    if node.op_type == "Transpose":
        turned: np.ndarray = array_in.transpose(
            node.attributes.get_ints("perm", tuple(reversed(range(array_in.ndim))))
        )
        return turned
    if node.op_type == "DequantizeLinear":
        return _dequantized(node, array_in)
    if node.op_type == "Mul":
        factor = constant_of(node.inputs[1])
        return None if factor is None or factor.shape != array_in.shape else array_in * factor
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) == _FLOAT:
        return array_in.astype(np.float32)
    return array_in


def _dequantized(node: ir.Node, values: np.ndarray) -> np.ndarray | None:
    """(values - zero point) scale, the scale for all or for each index of an axis."""
    scale = constant_of(node.inputs[1])
    zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if scale is None or (zero is None and len(node.inputs) > 2 and node.inputs[2] is not None):
        return None
    if scale.size > 1:
        if scale.ndim != 1 or "block_size" in node.attributes:
            return None
        axis = node.attributes.get_int("axis", 1) % values.ndim
        shape = [1] * values.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), None if zero is None else zero.reshape(shape)
    centred: np.ndarray = values.astype(np.float32) - (0 if zero is None else zero.astype(np.float32))
    real: np.ndarray = centred * scale.astype(np.float32)
    return real


def _transpose_weight(model: ir.Model, node: ir.Node, names: _Names) -> None:
    """Give a multiplication by a constant matrix a float32 initializer ``[out, in]``."""
    import onnx_ir as ir

    weight = node.inputs[1]
    array = constant_of(weight)
    if weight is None or array is None or array.ndim != 2 or array.dtype not in (np.float32, np.float64):
        return
    gemm = node.op_type == "Gemm"
    settings = {name: attribute.value for name, attribute in node.attributes.items()}
    if gemm and (
        settings.get("transA", 0) or settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0
    ):
        return
    matrix = array if gemm and settings.get("transB", 0) else array.T
    source = weight
    while (
        (maker := source.producer()) is not None
        and source.const_value is None
        and maker.inputs[0] is not None
    ):
        source = maker.inputs[0]
    name = names.make(str(source.name), node)
    tensor = ir.tensor(np.ascontiguousarray(matrix, np.float32), name=name)
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(matrix.shape)
    )
    model.graph.register_initializer(value)
    if gemm:
        node.attributes["transB"] = ir.AttrInt64("transB", 1)
        node.replace_input_with(1, value)
    else:
        turned = ir.node("Transpose", [value], {"perm": (1, 0)})
        turned.outputs[0].type, turned.outputs[0].shape = value.type, ir.Shape(matrix.shape[::-1])
        model.graph.insert_before(node, turned)
        node.replace_input_with(1, turned.outputs[0])


def _integers_to_float(model: ir.Model, node: ir.Node) -> None:
    """``MatMulInteger(a, W, za, zw)`` as ``MatMul(float(a) - za, float(W) - zw)``, up to the Cast that reads it.

    SparseML adds an integer bias before the Cast. The sums are of integers below 2**24 in magnitude times the length of
    a row, which float32 rounds to a relative 2**-24: the same order as the scaling that follows.
    """
    a, weight = node.inputs[0], node.inputs[1]
    values = constant_of(weight)
    zero_a = node.inputs[2] if len(node.inputs) > 2 else None
    zero_w = _zero_point(node, values)
    if a is None or weight is None or values is None or values.ndim != 2 or zero_w is None:
        return
    cast, add, bias = only_user(node.outputs[0]), None, None
    if cast is not None and cast.op_type == "Add":
        add, cast = cast, only_user(cast.outputs[0])
        bias = constant_of(next((value for value in add.inputs if value is not node.outputs[0]), None))
    if cast is None or cast.op_type != "Cast" or cast.attributes.get_int("to", 0) != _FLOAT:
        return
    if add is not None and bias is None:
        return
    build = Builder()
    left = build.op("Cast", a, to=_FLOAT)
    if zero_a is not None:
        left = build.op("Sub", left, build.op("Cast", zero_a, to=_FLOAT))
    product = build.op(
        "MatMul", left, _initializer(model, f"{weight.name}.float", values.astype(np.float32) - zero_w)
    )
    build.nodes[-1].name = node.name
    if bias is not None:
        product = build.op(
            "Add", product, _initializer(model, f"{weight.name}.bias", bias.astype(np.float32))
        )
    splice(model.graph, cast, build.nodes, {cast.outputs[0]: product})
    model.graph.remove([node] if add is None else [add, node], safe=True)


def _zero_point(node: ir.Node, values: np.ndarray | None) -> np.ndarray | None:
    """Zero point of a MatMulInteger's weight ``[in, out]``, for all of it or for each column; None if not constant."""
    value = node.inputs[3] if len(node.inputs) > 3 else None
    zero = np.zeros(1) if value is None else constant_of(value)
    if zero is None or values is None or zero.size not in (1, values.shape[-1]):
        return None
    return zero.astype(np.float32).reshape(1, -1)


def _initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer; equal arrays of one name are one."""
    import onnx_ir as ir

    found = model.graph.initializers.get(name)
    if found is not None:
        return found
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
    )
    model.graph.register_initializer(value)
    return value


def _qlinear_to_float(model: ir.Model, node: ir.Node) -> None:
    """``QLinearMatMul`` as ``QuantizeLinear(MatMul(DequantizeLinear(a), dequantized W))``."""
    import onnx_ir as ir

    a, scale_a, zero_a, weight, scale_w, zero_w, scale_y, zero_y = node.inputs
    values, scale, zero = constant_of(weight), constant_of(scale_w), constant_of(zero_w)
    if (
        weight is None
        or values is None
        or scale is None
        or zero is None
        or values.ndim != 2
        or scale.size not in (1, values.shape[1])
    ):
        return
    matrix = (values.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)
    value = _initializer(model, f"{weight.name}.float", matrix)
    real = ir.node("DequantizeLinear", [a, scale_a, zero_a])
    product = ir.node("MatMul", [real.outputs[0], value], name=node.name)
    rounded = ir.node("QuantizeLinear", [product.outputs[0], scale_y, zero_y])
    _replace(model, [node], [real, product, rounded], node.outputs[0])


def _replace(model: ir.Model, old: list[ir.Node], new: list[ir.Node], output: ir.Value) -> None:
    """Put `new` in the place of `old`; the last node of `new` gives what `output` was."""
    result = new[-1].outputs[0]
    result.type, result.shape = output.type, output.shape
    model.graph.insert_before(old[0], new)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name, output.name = output.name, None
    model.graph.remove(list(reversed(old)), safe=True)


def has_halves(model: ir.Model) -> bool:
    """Whether a model computes in half precision."""
    import onnx_ir as ir

    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return any(value.dtype == ir.DataType.FLOAT16 for value in values)


def _widen_halves(model: ir.Model) -> None:
    """Make a float16 model a float32 one: constants, casts and the types of values."""
    import onnx_ir as ir

    half = ir.DataType.FLOAT16
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        values += [value for value in node.outputs if value is not None]
        to = node.attributes.get("to")
        if node.op_type == "Cast" and to is not None and to.as_int() == half:
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
        tensor = node.attributes.get("value")
        if node.op_type == "Constant" and tensor is not None and tensor.as_tensor().dtype == half:
            wide = ir.tensor(tensor.as_tensor().numpy().astype(np.float32))
            node.attributes["value"] = ir.AttrTensor("value", wide)
    for value in values:
        if value.dtype == half:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            if value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
