"""Small ONNX models to be timed."""

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
    """Random values under `mask`, packed: CSR if `block` is (1, 1), else BSR.

    Of several copies each has its columns moved round by another number of blocks: a processor that met the same
    matrix again and again would learn it by heart, which it cannot where layers differ.
    """
    weight = np.where(mask, random.standard_normal(mask.shape, np.float32), np.float32(0))
    values, beside = VALUE_TYPES.get(weights).encode(weight, "w")
    packed = []
    for _ in range(copies):
        shift = block[1] * int(random.integers(mask.shape[1] // block[1]))
        kept, moved = np.roll(mask, shift, 1), np.roll(values, shift, 1)
        packed.append(FORMATS.get(format_of(block)).encode(moved, kept, block) | beside)
    return packed


def format_of(block: tuple[int, int]) -> str:
    """The storage format that `pack` uses."""
    return "csr" if block == (1, 1) else "bsr"


def packed_layers(
    form: str, weights: str, matrices: Sequence[Arrays], shape: tuple[int, int]
) -> onnx.ModelProto:
    """Products of one input x ``[batch, tokens, in]`` with several matrices of `shape`, an output for each."""
    helper = require("onnx", "export").helper
    function = op_for(form, weights)
    nodes, tensors = [], {"bias": np.zeros(shape[0], np.float32)}
    for i, arrays in enumerate(matrices):
        tensors |= {f"{name}{i}": arrays[name] for name in function.arrays}
        inputs = ["x", *(f"{name}{i}" for name in function.arrays), "bias"]
        nodes.append(helper.make_node(function.name, inputs, [f"y{i}"], domain=DOMAIN, in_features=shape[1]))
    return build(nodes, tensors, {"x": shape[1]}, {f"y{i}": shape[0] for i in range(len(matrices))})


def dense_layers(copies: int, shape: tuple[int, int], random: np.random.Generator) -> onnx.ModelProto:
    """The same with dense matrices: products as ONNX Runtime makes them, and the addition of a bias."""
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
    """A model of float32 inputs and outputs ``[batch, tokens, features]``, with the features given by name.

    Args:
        nodes: the graph.
        tensors: initializers by name.
        inputs: features of each input.
        outputs: features of each output.
        mask: whether there is an input "mask" as well, int64 ``[batch, tokens]``.
    """
    package = require("onnx", "export")
    helper, numbers = package.helper, package.TensorProto

    def values(sizes: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, numbers.FLOAT, ["batch", "tokens", size])
            for name, size in sizes.items()
        ]

    masks = [helper.make_tensor_value_info("mask", numbers.INT64, ["batch", "tokens"])] * mask
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
