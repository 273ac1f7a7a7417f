"""Build the small ONNX models that are timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aerogel.errors import require
from aerogel.ops.functions import op_for
from aerogel.ops.linear_function import DOMAIN, IR_VERSION, OPSET
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS

if TYPE_CHECKING:
    import onnx

__all__ = ["build", "dense_layers", "format_of", "pack", "packed_layers"]


def pack(
    mask: np.ndarray, block: tuple[int, int], weights: str, random: np.random.Generator, copies: int = 1
) -> list[Arrays]:
    """Store random values under `mask`, in CSR if `block` is (1, 1), else in BSR.

    The columns of each copy are rotated by a different number of blocks. Otherwise the branch predictor would learn
    the one matrix, which it cannot do in a model whose layers differ.
    """
    weight = np.where(mask, random.standard_normal(mask.shape, np.float32), np.float32(0))
    values, auxiliary = VALUE_TYPES.get(weights).encode(weight, "w")
    packed = []
    for _ in range(copies):
        shift = block[1] * int(random.integers(mask.shape[1] // block[1]))
        kept, moved = np.roll(mask, shift, 1), np.roll(values, shift, 1)
        packed.append(FORMATS.get(format_of(block)).encode(moved, kept, block) | auxiliary)
    return packed


def format_of(block: tuple[int, int]) -> str:
    """Storage format that `pack` uses for `block`."""
    return "csr" if block == (1, 1) else "bsr"


def packed_layers(
    format_name: str, weights: str, matrices: Sequence[Arrays], shape: tuple[int, int]
) -> onnx.ModelProto:
    """A model that multiplies one input x ``[batch, tokens, in]`` by several packed matrices, one output each."""
    helper = require("onnx", "export").helper
    function = op_for(format_name, weights)
    nodes, tensors = [], {"bias": np.zeros(shape[0], np.float32)}
    for i, arrays in enumerate(matrices):
        tensors |= {f"{name}{i}": arrays[name] for name in function.arrays}
        inputs = ["x", *(f"{name}{i}" for name in function.arrays), "bias"]
        nodes.append(helper.make_node(function.name, inputs, [f"y{i}"], domain=DOMAIN, in_features=shape[1]))
    return build(nodes, tensors, {"x": shape[1]}, {f"y{i}": shape[0] for i in range(len(matrices))})


def dense_layers(copies: int, shape: tuple[int, int], random: np.random.Generator) -> onnx.ModelProto:
    """The same with dense matrices: a MatMul and an Add of the bias for each."""
    helper = require("onnx", "export").helper
    nodes, tensors = [], {"bias": np.zeros(shape[0], np.float32)}
    for i in range(copies):
        tensors[f"w{i}"] = random.standard_normal(shape[::-1], np.float32)
        nodes.append(helper.make_node("MatMul", ["x", f"w{i}"], [f"p{i}"]))
        nodes.append(helper.make_node("Add", [f"p{i}", "bias"], [f"y{i}"]))
    return build(nodes, tensors, {"x": shape[1]}, {f"y{i}": shape[0] for i in range(copies)})


def build(
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, np.ndarray],
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    *,
    mask: bool = False,
) -> onnx.ModelProto:
    """A model with float32 inputs and outputs ``[batch, tokens, features]``.

    Args:
        nodes: the graph.
        tensors: initializers by name.
        inputs: number of features of each input, by name.
        outputs: number of features of each output, by name.
        mask: add an input "mask", int64 ``[batch, tokens]``.
    """
    package = require("onnx", "export")
    helper, types = package.helper, package.TensorProto

    def values(sizes: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, types.FLOAT, ["batch", "tokens", size])
            for name, size in sizes.items()
        ]

    masks = [helper.make_tensor_value_info("mask", types.INT64, ["batch", "tokens"])] * mask
    graph = helper.make_graph(
        nodes,
        "calibration",
        [*values(inputs), *masks],
        values(outputs),
        [package.numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return model
