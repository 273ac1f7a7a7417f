"""Rules for every ONNX function. New functions are found by their file names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from aerogel import runtime
from aerogel.errors import ExportError
from aerogel.kernels.cpu.library import find_library
from aerogel.ops.functions import FUNCTIONS, op_for, supported_formats
from aerogel.ops.linear_function import DOMAIN, IR_VERSION, OPSET, LinearFunction
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS

# Operators that ONNX Runtime does not fold, mostly because their output shapes depend on values.
UNFOLDABLE = {"NonZero", "Compress", "Unique", "DequantizeLinear"}

CASES = {
    # (out, in), density of the blocks
    "sparse": ((24, 36), 0.1),
    "half": ((24, 36), 0.5),
    "empty": ((24, 36), 0.0),
    "full": ((24, 36), 1.0),
    "one row of blocks": ((6, 36), 0.3),
    "one column of blocks": ((24, 6), 0.3),
    "more columns than uint16 counts": ((6, 65_538), 0.001),
}


STORAGES = [
    (format_name, weights) for weights in VALUE_TYPES.names() for format_name in supported_formats(weights)
]
# Operators of a body after the weight is folded.
PLAIN = Counter(["MatMul", "Add"])
FOLDED = {
    "fp32": PLAIN,
    "fp16": PLAIN,
    "int8": PLAIN + Counter(["Abs", "ReduceMax", "Max", "Div", "Round", "Mul", "Mul", "Mul", "Mul"]),
}


@dataclass(frozen=True)
class Storage:
    """A storage format and a value type."""

    format: str
    weights: str

    @property
    def function(self) -> LinearFunction:
        return op_for(self.format, self.weights)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        return [(1, 1), (2, 1), (3, 6), (6, 2)] if FORMATS.get(self.format).blocked else [(1, 1)]

    def encode(self, weight: np.ndarray, mask: np.ndarray, block: tuple[int, int] = (1, 1)) -> Arrays:
        values, auxiliary = VALUE_TYPES.get(self.weights).encode(weight, "w")
        return FORMATS.get(self.format).encode(values, mask, block) | auxiliary

    def stored(self, weight: np.ndarray) -> np.ndarray:
        """The stored values ``[out, in]``, before scaling."""
        return VALUE_TYPES.get(self.weights).encode(weight, "w")[0]

    def exact(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, float]:
        """y in float64, and the maximum error of float32."""
        stored = self.stored(weight).astype(np.float64)
        if self.weights != "int8":
            # A float32 sum of n products has an error of at most n roundings of the sum of their absolute values.
            terms = 1 + int(np.count_nonzero(weight, axis=1).max())
            size = (np.abs(x) @ np.abs(stored.T) + np.abs(bias)).max()
            return x.astype(np.float64) @ stored.T + bias, terms * 2**-24 * size
        m = np.abs(x).max(-1, keepdims=True)
        q = np.rint(x * (np.float32(127) / m)).astype(np.int64)
        scale = VALUE_TYPES.get("int8").encode(weight, "w")[1]["scale"].astype(np.float64)
        product = (q @ stored.T) * (m.astype(np.float64) / 127) * scale
        # The sum is exact. Five roundings follow: the constant 1 / 127, three products and a sum.
        return product + bias, 5 * 2**-24 * (np.abs(product) + np.abs(bias)).max()


@pytest.fixture(params=STORAGES, ids=lambda storage: "-".join(storage))
def storage(request: pytest.FixtureRequest) -> Storage:
    return Storage(*request.param)


def problem(
    shape: tuple[int, int], density: float, block: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    kept = random.random((shape[0] // block[0], shape[1] // block[1])) < density
    if density < 1:
        kept[[0, -1]] = False  # always an empty first and last row of blocks
    mask = np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
    weight = random.standard_normal(shape).astype(np.float32) * mask
    return weight, mask, random.standard_normal(shape[0]).astype(np.float32)


def save(
    path: Path, function: LinearFunction, arrays: Arrays, bias: np.ndarray, in_features: int, rank: int = 3
) -> None:
    """Save a model of one call, y = f(x, arrays, bias); all dimensions of x but the last are dynamic."""
    dims: list[Any] = [f"d{i}" for i in range(rank - 1)]
    graph = helper.make_graph(
        [
            helper.make_node(
                function.name, ["x", *function.arrays, "bias"], ["y"], domain=DOMAIN, in_features=in_features
            )
        ],
        "one_linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*dims, in_features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*dims, len(bias)])],
        [numpy_helper.from_array(value, name) for name, value in {**arrays, "bias": bias}.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(
        graph, functions=[function.proto()], opset_imports=opsets, ir_version=IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def optimized(path: Path) -> onnx.ModelProto:
    """The model after stock ONNX Runtime's graph optimizations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.mark.parametrize("case", CASES)
def test_body_multiplies_by_the_matrix(storage: Storage, case: str, tmp_path: Path) -> None:
    shape, density = CASES[case]
    random = np.random.default_rng(1)
    for block in storage.blocks:
        weight, mask, bias = problem(shape, density, block, seed=0)
        arrays = storage.encode(weight, mask, block)
        if "indices" in arrays:
            assert arrays["indices"].dtype == (np.int32 if shape[1] > 65_536 else np.uint16)
        save(tmp_path / "m.onnx", storage.function, arrays, bias, shape[1])
        session = runtime.session(tmp_path / "m.onnx", library=False)
        for leading in ((1, 1), (2, 5)):
            x = random.standard_normal((*leading, shape[1])).astype(np.float32)
            exact, bound = storage.exact(x, weight, bias)
            np.testing.assert_allclose(session.run(None, {"x": x})[0], exact, rtol=0, atol=bound)


@pytest.mark.parametrize("rank", [2, 4])
def test_inputs_of_other_ranks(storage: Storage, rank: int, tmp_path: Path) -> None:
    weight, mask, bias = problem((24, 36), 0.2, (1, 1), seed=3)
    save(tmp_path / "m.onnx", storage.function, storage.encode(weight, mask), bias, 36, rank)
    x = np.random.default_rng(0).standard_normal((*range(2, rank + 1), 36)).astype(np.float32)
    got = runtime.session(tmp_path / "m.onnx", library=False).run(None, {"x": x})[0]
    exact, bound = storage.exact(x, weight, bias)
    np.testing.assert_allclose(got, exact, rtol=0, atol=bound)


@pytest.mark.parametrize("case", CASES)
def test_stock_runtime_folds_the_body_to_one_dense_matrix(
    storage: Storage, case: str, tmp_path: Path
) -> None:
    shape, density = CASES[case]
    for block in storage.blocks:
        weight, mask, bias = problem(shape, density, block, seed=5)
        save(tmp_path / "m.onnx", storage.function, storage.encode(weight, mask, block), bias, shape[1])
        graph = optimized(tmp_path / "m.onnx").graph
        assert Counter(node.op_type for node in graph.node) == FOLDED[storage.weights]
        product = next(node for node in graph.node if node.op_type == "MatMul")
        dense = {value.name: numpy_helper.to_array(value) for value in graph.initializer}[product.input[1]]
        assert dense.dtype == np.float32
        np.testing.assert_array_equal(dense, storage.stored(weight).T)


def test_body_needs_no_graph_optimizations(storage: Storage, tmp_path: Path) -> None:
    weight, mask, bias = problem((24, 36), 0.3, (1, 1), seed=9)
    save(tmp_path / "m.onnx", storage.function, storage.encode(weight, mask), bias, 36)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((2, 9, 36)).astype(np.float32)
    exact, bound = storage.exact(x, weight, bias)
    np.testing.assert_allclose(opened.run(None, {"x": x})[0], exact, rtol=0, atol=bound)


def test_library_kernel_agrees_with_the_body(storage: Storage, tmp_path: Path) -> None:
    assert find_library() is not None, "build the native library first (pip install .)"
    for block in storage.blocks:
        weight, mask, bias = problem((24, 36), 0.3, block, seed=7)
        save(tmp_path / "m.onnx", storage.function, storage.encode(weight, mask, block), bias, 36)
        x = np.random.default_rng(0).standard_normal((2, 9, 36)).astype(np.float32)
        body, kernel = (
            runtime.session(tmp_path / "m.onnx", library=library).run(None, {"x": x})[0]
            for library in (False, True)
        )
        np.testing.assert_allclose(kernel, body, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS.names())
def test_body_has_only_foldable_nodes(name: str) -> None:
    function = FUNCTIONS.get(name)
    proto = function.proto()
    assert (proto.domain, proto.name) == (DOMAIN, function.name)
    assert list(proto.input) == ["x", *function.arrays, "bias"]
    assert list(proto.output) == ["y"]
    assert list(proto.attribute) == ["in_features"]
    assert not UNFOLDABLE & {node.op_type for node in proto.node}
    read = {value for node in proto.node for value in node.input} | set(proto.output)
    for node in proto.node:
        assert set(node.output) <= read, f"nothing reads {node.output[0]}"
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": OPSET}


@pytest.mark.parametrize("name", FUNCTIONS.names())
def test_name_has_a_version_and_break_even_is_a_fraction(name: str) -> None:
    function = FUNCTIONS.get(name)
    assert function.name.rpartition("_v")[2].isdigit()
    # Single-row panels fit every block.
    assert 1 in function.break_even
    assert all(0 < density <= 1 for density in function.break_even.values())


def test_arrays_are_those_of_the_format_then_the_auxiliary_ones(storage: Storage) -> None:
    _, auxiliary = VALUE_TYPES.get(storage.weights).encode(np.ones((2, 2), np.float32), "w")
    assert storage.function.arrays == (*FORMATS.get(storage.format).names, *auxiliary)


def test_every_function_belongs_to_a_storage() -> None:
    assert {op_for(*storage).name for storage in STORAGES} == {
        FUNCTIONS.get(name).name for name in FUNCTIONS.names()
    }


@pytest.mark.parametrize("name", FUNCTIONS.names())
def test_matrices_with_too_many_elements_are_refused(name: str) -> None:
    function = FUNCTIONS.get(name)
    # The bodies of CSR and bitmasks index elements with 32 bits, the kernels with 36.
    limit = 2**31 - 1 if name.startswith(("csr", "bitmask")) else 2**36
    function.check_shape((limit // 2**20, 2**20), "w")
    with pytest.raises(
        ExportError,
        match=f"layer.w is {limit // 65536 + 1}x65536, more than the {limit} elements that {function.name}",
    ):
        function.check_shape((limit // 65536 + 1, 65536), "layer.w")


@pytest.mark.parametrize("columns", [2**20 + 1, 2**31 - 1])
@pytest.mark.parametrize("name", FUNCTIONS.names())
def test_matrices_with_too_many_columns_are_refused(name: str, columns: int) -> None:
    function = FUNCTIONS.get(name)
    function.check_shape((1, 2**20), "w")
    with pytest.raises(
        ExportError, match=f"w has {columns} columns, more than the 1048576 that {function.name} supports"
    ):
        function.check_shape((1, columns), "w")
