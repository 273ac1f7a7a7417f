"""Every operator of ONNX Runtime that has an expansion computes the same before and after."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from aerogel.export.expansion import DOMAIN, EXPANSIONS, expand

RANDOM = np.random.default_rng(0)
WIDTH = 8


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


X = floats(2, 5, WIDTH)
RAW = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0]], np.int32)
TABLES = [floats(9, WIDTH), floats(6, WIDTH), floats(2, WIDTH), floats(WIDTH), floats(WIDTH)]
IDS, SEGMENTS = np.array([[1, 2, 3, 4, 5], [8, 7, 0, 0, 0]], np.int32), RAW
QKV = [floats(WIDTH, 3 * WIDTH), floats(3 * WIDTH)]

# Operator, inputs (None is left out), which of them are inputs of the graph, attributes, number of outputs to compare.
CASES = {
    "gelu": ("Gelu", [X], 1, {}, [0]),
    "bias gelu": ("BiasGelu", [X, floats(WIDTH)], 1, {}, [0]),
    "fast gelu": ("FastGelu", [X], 1, {}, [0]),
    "fast gelu with bias": ("FastGelu", [X, floats(WIDTH)], 1, {}, [0]),
    "skip": ("SkipLayerNormalization", [X, X[::-1], floats(WIDTH), floats(WIDTH)], 2, {"epsilon": 1e-3}, [0]),
    "skip with bias": (
        "SkipLayerNormalization", [X, X[::-1], floats(WIDTH), floats(WIDTH), floats(WIDTH)], 2, {"epsilon": 1e-3},
        [0, 3],
    ),
    "skip without beta": ("SkipLayerNormalization", [X, X[::-1], floats(WIDTH)], 2, {"epsilon": 1e-3}, [0]),
    "embed": (
        "EmbedLayerNormalization", [IDS, SEGMENTS, *TABLES, RAW], 2, {"epsilon": 1e-3}, [0, 1],
    ),
    "embed without mask or segments": (
        "EmbedLayerNormalization", [IDS, None, *TABLES[:2], None, *TABLES[3:]], 1, {"epsilon": 1e-3}, [0, 1],
    ),
    "matmul": ("FusedMatMul", [X, X], 2, {"transB": 1, "alpha": 0.5}, [0]),
    "matmul of columns": ("FusedMatMul", [X, X], 2, {"transA": 1}, [0]),
    "attention": ("Attention", [X, *QKV], 1, {"num_heads": 2}, [0]),
    "attention, raw mask": ("Attention", [X, *QKV, RAW], 1, {"num_heads": 2, "mask_filter_value": -3e38}, [0]),
    "attention, lengths": ("Attention", [X, *QKV, np.array([5, 2], np.int32)], 1, {"num_heads": 4}, [0]),
    "attention, no tokens": ("Attention", [X, *QKV, np.array([0, 0], np.int32)], 1, {"num_heads": 4}, [0]),
    "attention, scale and bias": (
        "Attention", [X, *QKV, None, None, floats(2, 2, 5, 5)], 1, {"num_heads": 2, "scale": 0.3}, [0],
    ),
    "heads": ("MultiHeadAttention", [X, X[::-1], 2 * X], 3, {"num_heads": 2}, [0]),
    "heads, bias and mask": ("MultiHeadAttention", [X, X[::-1], 2 * X, QKV[1], RAW], 3, {"num_heads": 2}, [0]),
}  # fmt: skip


def graph_of(name: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    op_type, arrays, given, attributes, outputs = CASES[name]
    # Constants that are no weights are inputs as well: a mask is never known beforehand.
    feed = {
        f"i{number}": array
        for number, array in enumerate(arrays)
        if array is not None and (number < given or array.dtype == np.int32)
    }
    constants = {f"i{n}": a for n, a in enumerate(arrays) if a is not None and f"i{n}" not in feed}
    inputs = [f"i{number}" if array is not None else "" for number, array in enumerate(arrays)]
    results = [f"o{number}" if number in outputs else "" for number in range(max(outputs) + 1)]
    graph = helper.make_graph(
        [helper.make_node(op_type, inputs, results, domain=DOMAIN, **attributes)],
        "g",
        [
            helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for key, array in feed.items()
        ],
        [helper.make_empty_tensor_value_info(result) for result in results if result],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), feed


def run(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(y) for y in onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)]


@pytest.mark.parametrize("name", CASES)
def test_operators_mean_the_same_in_standard_ones(name: str) -> None:
    proto, feed = graph_of(name)
    model = ir.from_proto(proto)
    expand(model)
    assert DOMAIN not in {node.domain for node in model.graph}
    for found, expected in zip(run(ir.to_proto(model), feed), run(proto, feed), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("attention", {"unidirectional": 1}),
        ("attention", {"qkv_hidden_sizes": [8, 8, 8]}),
        ("matmul", {"transBatchA": 1}),
        ("heads", {"unidirectional": 1}),
        ("embed", {"mask_index_type": 2}),
    ],
)
def test_forms_without_an_expansion_stay(name: str, changes: dict[str, int]) -> None:
    proto, _ = graph_of(name)
    proto.graph.node[0].attribute.extend(helper.make_attribute(key, value) for key, value in changes.items())
    model = ir.from_proto(proto)
    expand(model)
    assert [node.domain for node in model.graph] == [DOMAIN]


def test_every_expansion_is_tested() -> None:
    tested = {case[0].lower() for case in CASES.values()}
    assert {name.replace("-", "") for name in EXPANSIONS.names()} == tested
