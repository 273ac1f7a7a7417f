from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from aerogel import runtime
from aerogel.errors import ExportError, UsageError
from aerogel.export.embeddings import Table, store_embeddings
from aerogel.export.simplify import simplify

ROWS = 80
TABLE = np.random.default_rng(0).standard_normal((ROWS, 8)).astype(np.float32)


def model(body: str, table: np.ndarray = TABLE) -> ir.Model:
    """y of ids [n], with the tables t and u."""
    header = '<ir_version: 8, opset_import: ["" : 18]> g (int64[n] ids) => (float[n,8] y)'
    made = ir.from_onnx_text(f"{header} <float[8] zeros = {{0,0,0,0,0,0,0,0}}> {{ {body} }}")
    value = next(value for node in made.graph for value in node.inputs if value and value.name == "t")
    value.const_value = ir.tensor(table, name="t")
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(table.shape)
    made.graph.register_initializer(value)
    return made


def stored(made: ir.Model) -> dict[str, np.ndarray]:
    return {
        name: value.const_value.numpy()
        for name, value in made.graph.initializers.items()
        if value.const_value is not None and name.startswith("t")
    }


def look_up(made: ir.Model, ids: list[int]) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(ir.to_proto(made)).run(None, {"ids": np.array(ids)})[0]


def test_half_precision_is_looked_up_and_then_widened() -> None:
    made = model("y = Gather (t, ids)")
    (table,) = store_embeddings(made, "fp16", ["t"]).values()
    assert [node.op_type for node in made.graph] == ["Gather", "Cast"]
    assert stored(made).keys() == {"t.data"}
    assert stored(made)["t.data"].dtype == np.float16
    assert (table.shape, table.weights, table.reason, table.bytes) == (
        (ROWS, 8),
        "fp16",
        "asked for",
        ROWS * 16,
    )
    np.testing.assert_array_equal(look_up(made, [3, 0, 79]), TABLE.astype(np.float16)[[3, 0, 79]])
    np.testing.assert_array_equal(table.rounded, TABLE.astype(np.float16))


def test_8_bits_are_looked_up_with_the_rows_scale() -> None:
    made = model("y = Gather <axis = 0> (t, ids)")
    (table,) = store_embeddings(made, "int8", ["t"]).values()
    assert [node.op_type for node in made.graph] == ["Gather", "Cast", "Gather", "Mul"]
    arrays = stored(made)
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "t.data": ("int8", (ROWS, 8)),
        "t.scale": ("float32", (ROWS, 1)),
    }
    assert table.bytes == ROWS * 8 + ROWS * 4
    got = look_up(made, [5, 5, 1])
    np.testing.assert_array_equal(got, table.rounded[[5, 5, 1]])
    assert (np.abs(got - TABLE[[5, 5, 1]]).max(1) <= 0.5001 * arrays["t.scale"][[5, 5, 1], 0]).all()


def test_a_table_of_few_rows_is_never_in_8_bits() -> None:
    made = model("y = Gather (t, ids)", TABLE[:2])
    (table,) = store_embeddings(made, "int8", ["t"]).values()
    assert (table.weights, table.reason) == ("fp16", "fewer than 64 rows")


def test_several_look_ups_share_the_stored_table() -> None:
    made = model("a = Gather (t, ids) b = Gather (t, ids) y = Add (a, b)")
    store_embeddings(made, "int8", ["t"])
    assert stored(made).keys() == {"t.data", "t.scale"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("a = Gather (t, ids) s = ReduceSum (t) y = Add (a, s)", "also used by ReduceSum"),
        ("a = Gather (t, ids) b = Gather <axis = 1> (t, ids) s = ReduceSum (b) y = Add (a, s)", "also used by Gather"),
    ],
)  # fmt: skip
def test_a_table_that_serves_something_else_stays(body: str, why: str) -> None:
    made = model(body)
    (table,) = store_embeddings(made, "int8", ["t"]).values()
    assert (table.weights, table.reason, table.bytes) == ("fp32", why, TABLE.nbytes)
    assert stored(made).keys() == {"t"}


def test_fp32_changes_nothing_and_lists_the_tables() -> None:
    made = model("y = Gather (t, ids)")
    (table,) = store_embeddings(made, "fp32", ["t"]).values()
    assert table.weights == "fp32"
    assert [node.op_type for node in made.graph] == ["Gather"]


@pytest.mark.parametrize("body", ["y = Add (t, zeros)", "a = Gather <axis = 1> (t, ids) y = Add (a, zeros)"])
def test_what_is_no_look_up_of_rows_is_no_table(body: str) -> None:
    assert store_embeddings(model(body), "int8", ["t"]) == {}


def test_what_is_no_parameter_is_no_table() -> None:
    assert store_embeddings(model("y = Gather (t, ids)"), "int8", ["other"]) == {}


def test_bad_requests() -> None:
    with pytest.raises(UsageError, match="unknown value type 'int4'"):
        store_embeddings(model("y = Gather (t, ids)"), "int4", ["t"])
    with pytest.raises(ExportError, match=r"t has a value of 7000\d"):
        store_embeddings(model("y = Gather (t, ids)", TABLE + np.float32(7e4)), "fp16", ["t"])


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_tables_of_encoders_are_found_and_not_folded_back(
    captured: Callable[..., Any], family: str, weights: str, tmp_path: Any
) -> None:
    _, source, made = captured(family)
    simplify(made)
    tables: dict[str, Table] = store_embeddings(made, weights, dict(source.model.named_parameters()))
    expected = {"word_embeddings", "position_embeddings", "token_type_embeddings"}
    if family == "distilbert":
        expected -= {"token_type_embeddings"}
    assert {name.split(".")[-2] for name in tables} == expected
    types = {name.split(".")[-2]: table.weights for name, table in tables.items()}
    assert types["word_embeddings"] == types["position_embeddings"] == weights
    options = runtime.session_options(threads=1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ir.save(made, tmp_path / "m.onnx")
    runtime.session(tmp_path / "m.onnx", library=False, options=options)
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    types_by_shape = {tuple(value.dims): value.data_type for value in graph.initializer}
    for name, table in tables.items():
        wanted = {"fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}[table.weights]
        assert types_by_shape[table.shape] == wanted, name
