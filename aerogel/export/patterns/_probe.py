"""What a graph computes from ``attention_mask`` alone: cut out of the model, and run on masks of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.export.dims import BATCH, SEQUENCE, Dims
from aerogel.export.key_mask import NAME

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Probe", "probe"]

# The part that makes a mask has some ten to sixty nodes.
_MOST_NODES = 200
# Longer than the windows of local attention; shorter ones are for models that allow no more.
_LENGTHS = (520, 130, 40, 12)
# Of a model with fixed dimensions: each pair of tokens is masked in every way by some of them.
_FIXED_MASKS = 32


@dataclass(frozen=True)
class Probe:
    """A mask, and what the graph computes from it.

    Attributes:
        mask: bool ``[batch, sequence]``, True at real tokens.
        found: the value.
    """

    mask: np.ndarray
    found: np.ndarray


def probe(value: ir.Value, model: ir.Model, dims: Dims) -> list[Probe] | None:
    """Run the part of a model that computes `value` from ``attention_mask`` and dimensions.

    Returns:
        Results for all masks of three tokens, and for some of five and of the most tokens that run; for masks of the
        model's own dimensions if they are fixed. None if `value` depends on anything else, or does not run.
    """
    part = _cut(value, dims)
    if part is None:
        return None
    run = _session(value, part, model)
    batch, length = (size if isinstance(size, int) else None for size in dims.of(part.mask) or (None, None))
    found = [_result(run, part, mask) for mask in _masks(batch, length)]
    if length is None:
        # A model with a table of positions runs up to its length only.
        longest = (_result(run, part, _random(batch or 2, size)) for size in _LENGTHS)
        found.append(next((result for result in longest if result is not None), None))
    results = [result for result in found if result is not None]
    return results if len(results) == len(found) else None


@dataclass(frozen=True)
class _Part:
    """Nodes from the mask to a value, and the values that are given instead of computed."""

    mask: ir.Value
    nodes: list[ir.Node]
    constants: list[ir.Value]
    vectors: dict[ir.Value, list[int | str]]


def _cut(value: ir.Value, dims: Dims) -> _Part | None:
    nodes: dict[ir.Node, None] = {}
    constants: dict[ir.Value, None] = {}
    vectors: dict[ir.Value, list[int | str]] = {}
    mask = None
    todo = [value]
    seen = set()
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        sizes = dims.vector(at)
        known = [size for size in sizes or () if isinstance(size, int) or size in (BATCH, SEQUENCE)]
        node = at.producer()
        if at.const_value is not None:
            constants[at] = None
        elif sizes is not None and len(known) == len(sizes) and dims.of(at) is not None:
            vectors[at] = known
        elif at.is_graph_input() and at.name == NAME:
            mask = at
        elif node is None or node.domain or len(nodes) >= _MOST_NODES or at.is_graph_input():
            return None
        else:
            nodes[node] = None
            todo += [operand for operand in node.inputs if operand is not None]
    if mask is None or not nodes:
        return None
    graph = value.producer().graph  # type: ignore[union-attr]
    order = [node for node in graph or () if node in nodes]
    return _Part(mask, order, list(constants), vectors)


def _session(value: ir.Value, part: _Part, model: ir.Model) -> Callable[[dict[str, Any]], np.ndarray] | None:
    import onnx
    import onnx_ir as ir
    import onnxruntime

    nodes = [ir.to_proto(node) for node in part.nodes]
    constants = []
    for constant in part.constants:
        assert constant.const_value is not None  # it is a constant
        tensor = ir.to_proto(constant.const_value)
        tensor.name = str(constant.name)
        constants.append(tensor)
    inputs = [
        onnx.helper.make_tensor_value_info(str(part.mask.name), int(part.mask.dtype or 7), [None, None])
    ]
    inputs += [
        onnx.helper.make_tensor_value_info(str(given.name), int(given.dtype or 7), None)
        for given in part.vectors
    ]
    result = onnx.helper.make_empty_tensor_value_info(str(value.name))
    graph = onnx.helper.make_graph(nodes, "part", inputs, [result], constants)
    opsets = [onnx.helper.make_opsetid("", model.graph.opset_imports.get("", 18))]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # onnxruntime raises types of its own
        return None

    def run(feed: dict[str, Any]) -> np.ndarray:
        return np.asarray(session.run(None, feed)[0])

    return run


def _result(
    run: Callable[[dict[str, Any]], np.ndarray] | None, part: _Part, mask: np.ndarray
) -> Probe | None:
    import onnx_ir as ir

    if run is None:
        return None
    sizes = dict(zip((BATCH, SEQUENCE), mask.shape, strict=True))
    dtype = (part.mask.dtype or ir.DataType.INT64).numpy()
    feed: dict[str, Any] = {str(part.mask.name): mask.astype(dtype)}
    for value, vector in part.vectors.items():
        numbers = [size if isinstance(size, int) else sizes[size] for size in vector]
        scalar = value.shape is not None and len(value.shape) == 0
        kind = (value.dtype or ir.DataType.INT64).numpy()
        feed[str(value.name)] = np.array(numbers[0] if scalar else numbers, kind)
    try:
        return Probe(mask, run(feed))
    except Exception:  # onnxruntime raises types of its own
        return None


def _masks(batch: int | None, length: int | None) -> Iterator[np.ndarray]:
    """Masks of a batch and length; where any will do, all of three tokens, and some of five and of one."""
    if batch is None and length is None:
        yield np.array([[number >> bit & 1 for bit in range(3)] for number in range(8)], bool)
        yield _random(3, 5)
        yield np.ones((1, 1), bool)
    else:
        for seed in range(_FIXED_MASKS):
            yield _random(batch or 4, length or 5, seed)


def _random(rows: int, length: int, seed: int = 0) -> np.ndarray:
    """Masks with holes, the last row padded on the right."""
    random = np.random.default_rng(seed)
    mask = random.random((rows, length)) < 0.7
    mask[-1] = np.arange(length) < random.integers(1, length + 1)
    return mask
