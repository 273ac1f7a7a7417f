"""The operators in ONNX Runtime, without function bodies, so that only the kernels can run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import aerogel
from aerogel.bench.memory import resident
from aerogel.kernels.cpu.native import Isa, isas
from aerogel.sparse.formats import FORMATS

OUT, IN = 24, 36
FUNCTIONS = {
    "csr": "CsrLinear_v1",
    "bsr": "BsrLinear_v1",
    "bitmask": "BitmaskLinear_v1",
    "csr-fp16": "CsrLinearFp16_v1",
    "bsr-fp16": "BsrLinearFp16_v1",
    "bitmask-fp16": "BitmaskLinearFp16_v1",
    "csr-int8": "CsrLinearInt8_v1",
    "bsr-int8": "BsrLinearInt8_v1",
    "bitmask-int8": "BitmaskLinearInt8_v1",
}
BLOCKED = [form for form in FUNCTIONS if form.startswith("bsr")]
BITMASKS = [form for form in FUNCTIONS if form.startswith("bitmask")]
INDEXED = [form for form in FUNCTIONS if form not in BITMASKS]
RANDOM = np.random.default_rng(0)


def sample(form: str, block: tuple[int, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the node's inputs except x, and the dense stored weight; int8 weights are not scaled."""
    kept = RANDOM.random((OUT // block[0], IN // block[1])) < 0.3
    mask = np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
    stored, _, weights = form.partition("-")
    weight = np.where(mask, RANDOM.standard_normal(mask.shape), 0).astype(np.float32)
    vectors = {"bias": RANDOM.standard_normal(OUT).astype(np.float32)}
    if weights == "fp16":
        weight = weight.astype(np.float16)
    if weights == "int8":
        weight = np.clip(np.rint(weight * 60), -127, 127).astype(np.int8)
        vectors["scale"] = RANDOM.uniform(0.001, 0.02, OUT).astype(np.float32)
    return {**FORMATS.get(stored).encode(weight, mask, block), **vectors}, weight


def exact(x: np.ndarray, inputs: dict[str, np.ndarray], weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the float64 product and the tolerance of float32."""
    eps = np.finfo(np.float32).eps
    transposed, bias = weight.T.astype(np.float64), inputs["bias"].astype(np.float64)
    if "scale" not in inputs:
        size = np.abs(x).astype(np.float64) @ np.abs(transposed) + np.abs(bias)
        return x.astype(np.float64) @ transposed + bias, 8 * eps * size
    m = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-20))
    q = np.rint(x * (np.float32(127) / m)).astype(np.int64)  # rint rounds half to even
    product = (q @ transposed) * (m.astype(np.float64) / 127) * inputs["scale"]
    return product + bias, 4 * eps * (np.abs(product) + np.abs(bias))


def model(
    form: str, inputs: dict[str, np.ndarray], rank: int = 3, in_features: int = IN, node: str = ""
) -> bytes:
    stored = FORMATS.get(form.partition("-")[0])
    names = [*stored.names, *["scale"] * form.endswith("int8"), "bias"]
    call = helper.make_node(
        FUNCTIONS[form], ["x", *names], ["y"], name=node, domain="aerogel", in_features=in_features
    )
    fed = [name for name in names if name not in inputs]
    graph = helper.make_graph(
        [call],
        "one_linear",
        [
            helper.make_tensor_value_info(
                "x", TensorProto.FLOAT, [f"d{i}" for i in range(rank - 1)] + [None]
            ),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in fed),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(inputs[name], name) for name in names if name in inputs],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("aerogel", 1)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def session(data: bytes | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(aerogel.library_path())
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("isa", [isa.name for isa in isas() if isa.available])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("form", "block"),
    [
        (form, block)
        for form in FUNCTIONS
        for block in ([(4, 1), (3, 2), (1, 4)] if form in BLOCKED else [(1, 1)])
    ],
)
def test_against_numpy(
    isa: str, wide: bool, form: str, block: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEROGEL_ISA", isa)
    inputs, weight = sample(form, block)
    if wide and "indices" in inputs:
        inputs["indices"] = inputs["indices"].astype(np.int32)
    opened = session(model(form, inputs), threads=2)
    for shape in ((1, 1), (2, 37), (3, 200), (0, 5)):
        x = RANDOM.standard_normal((*shape, IN)).astype(np.float32)
        (y,) = opened.run(None, {"x": x})
        expected, bound = exact(x, inputs, weight)
        assert y.shape == (*shape, OUT)
        assert np.all(np.abs(y - expected) <= bound)


@pytest.mark.parametrize("form", FUNCTIONS)
def test_results_do_not_depend_on_threads(form: str) -> None:
    inputs, _ = sample(form, (1, 1))
    data = model(form, inputs)
    x = RANDOM.standard_normal((4, 130, IN)).astype(np.float32)
    first = session(data, 1).run(None, {"x": x})[0]
    for threads in (2, 5, 8):
        np.testing.assert_array_equal(session(data, threads).run(None, {"x": x})[0], first)


@pytest.mark.parametrize("form", BLOCKED)
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_shape_inference(form: str, rank: int) -> None:
    inputs, _ = sample(form, (4, 1))
    opened = session(model(form, inputs, rank))
    assert opened.get_outputs()[0].shape == [*(f"d{i}" for i in range(rank - 1)), OUT]
    shape = (2,) * (rank - 1)
    assert opened.run(None, {"x": np.zeros((*shape, IN), np.float32)})[0].shape == (*shape, OUT)


def broken(form: str, **changes: Any) -> dict[str, np.ndarray]:
    inputs, _ = sample(form, (1, 1))
    for name, change in changes.items():
        inputs[name] = change(inputs[name].copy())
    return inputs


def put(position: int, value: int) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array[position] = value
        return array

    return change


@pytest.mark.parametrize("form", INDEXED)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": put(5, IN)}, r"indices 'indices' have 36 at position 5, which is outside \[0, 36\)"),
        ({"indices": lambda a: a[::-1].copy()}, "indices 'indices' do not ascend"),
        ({"indices": lambda a: a[:-1]}, "indices 'indices' must be uint16 or int32"),
        ({"indices": lambda a: a.astype(np.int64)}, "indices 'indices' must be uint16 or int32"),
        ({"indptr": put(0, 1)}, "indptr 'indptr' must run from 0"),
        ({"indptr": put(3, 2**31 - 1)}, "indptr 'indptr' falls or overruns"),
        ({"indptr": put(3, -1)}, "indptr 'indptr' falls or overruns"),
        ({"indptr": lambda a: a[:1]}, "indptr 'indptr' must be int32"),
        ({"bias": lambda a: a[:-1]}, r"bias 'bias' must be float32 \[24\]"),
        ({"data": lambda a: a[..., None]}, "data 'data' must be (float32|float16|int8) of rank"),
        ({"data": lambda a: a.astype(np.float64)}, "data 'data' must be (float32|float16|int8) of rank"),
    ],
)
def test_load_rejects_malformed_initializers(form: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=f"{FUNCTIONS[form]}: {message}"):
        session(model(form, broken(form, **changes)))
    with pytest.raises(Exception, match=f"{FUNCTIONS[form]} 'layer.3.query': {message}"):
        session(model(form, broken(form, **changes), node="layer.3.query"))


@pytest.mark.parametrize("form", BITMASKS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bitmask": lambda a: a | np.uint8(1) << 4 * (np.arange(5) == 4).astype(np.uint8)},
         r"bitmask 'bitmask' has (a bit set in row 0 beyond its 36 columns|more bits set than the \d+ values of data)"),
        ({"bitmask": lambda a: a * 0}, r"bitmask 'bitmask' has 0 bits set where data has \d+ values"),
        ({"data": lambda a: a[:-1]}, r"bitmask 'bitmask' has more bits set than the \d+ values of data"),
        ({"bitmask": lambda a: a[:, :-1]}, "bitmask 'bitmask' must have 5 bytes in a row of 36 columns, not uint8"),
        ({"bitmask": lambda a: a.ravel()}, "bitmask 'bitmask' must be uint8 of rank 2 with a row"),
        ({"bitmask": lambda a: a[:0]}, "bitmask 'bitmask' must be uint8 of rank 2 with a row"),
        ({"bitmask": lambda a: a.view(np.int8)}, "bitmask 'bitmask' must be uint8 of rank 2 with a row"),
        ({"bias": lambda a: a[:-1]}, r"bias 'bias' must be float32 \[24\]"),
        ({"data": lambda a: a[..., None]}, "data 'data' must be (float32|float16|int8) of rank 1"),
    ],
)  # fmt: skip
def test_load_rejects_malformed_bitmasks(form: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=f"{FUNCTIONS[form]} 'layer.3.query': {message}"):
        session(model(form, broken(form, **changes), node="layer.3.query"))


@pytest.mark.parametrize("form", BITMASKS)
@pytest.mark.parametrize("in_features", [0, -1, 2**31, 2**62, 2**63 - 1])
def test_load_rejects_bitmasks_with_in_features_out_of_range(form: str, in_features: int) -> None:
    inputs, _ = sample(form, (1, 1))
    with pytest.raises(Exception, match=f"{FUNCTIONS[form]}: in_features: dimension {in_features} is not in"):
        session(model(form, inputs, in_features=in_features))


@pytest.mark.parametrize("form", BITMASKS)
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_shape_inference_of_bitmasks(form: str, rank: int) -> None:
    opened = session(model(form, sample(form, (1, 1))[0], rank))
    assert opened.get_outputs()[0].shape == [*(f"d{i}" for i in range(rank - 1)), OUT]


@pytest.mark.parametrize("form", BLOCKED)
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4), "has blocks of 1x4, which do not divide a matrix of 24x34"),
        ((0, 4), r"must have blocks of a row and a column or more, not \w+ \[0, 0, 4\]"),
        ((4, 0), r"must have blocks of a row and a column or more, not \w+ \[0, 4, 0\]"),
    ],
)
def test_load_rejects_blocks_that_do_not_fit(form: str, shape: tuple[int, int], message: str) -> None:
    inputs, _ = sample(form, shape if 0 not in shape else (1, 4))
    if 0 in shape:
        inputs["data"] = np.zeros((0, *shape), inputs["data"].dtype)
        inputs["indices"] = inputs["indices"][:0]
    with pytest.raises(Exception, match=f"{FUNCTIONS[form]}: data 'data' {message}"):
        session(model(form, inputs, in_features=34))


@pytest.mark.parametrize("form", BLOCKED)
def test_load_rejects_oversized_blocks(form: str) -> None:
    changed = onnx.ModelProto.FromString(model(form, broken(form)))
    data = next(tensor for tensor in changed.graph.initializer if tensor.name == "data")
    data.raw_data = b""
    data.dims[:] = [0, 2**62, 1]  # no entries, so that only the size is invalid
    with pytest.raises(Exception, match=r"'(data|indices)'"):
        session(changed.SerializeToString())


@pytest.mark.parametrize("form", ["csr-int8", "bsr-int8", "bitmask-int8"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 3, -128, a).astype(np.int8)},
         "data 'data' has -128 at position 3; give -127 to 127"),
        ({"data": lambda a: a.astype(np.uint8)}, "data 'data' must be int8 of rank"),
        ({"scale": lambda a: a[:-1]}, r"scale 'scale' must be float32 \[24\], not float32 \[23\]"),
        ({"scale": lambda a: a.astype(np.float16)}, r"scale 'scale' must be float32 \[24\], not float16"),
    ],
)  # fmt: skip
def test_load_rejects_malformed_int8_weights(form: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=f"{FUNCTIONS[form]}: .*{message}"):
        session(model(form, broken(form, **changes)))


@pytest.mark.parametrize("value", [None, 36.0, "36", [36]])
def test_load_rejects_non_integer_in_features(value: Any) -> None:
    changed = onnx.ModelProto.FromString(model("csr", sample("csr", (1, 1))[0], node="query"))
    del changed.graph.node[0].attribute[:]
    if value is not None:
        changed.graph.node[0].attribute.append(helper.make_attribute("in_features", value))
    with pytest.raises(
        Exception, match="CsrLinear_v1 'query': attribute in_features is missing or not an integer"
    ):
        session(changed.SerializeToString())


@pytest.mark.parametrize("form", FUNCTIONS)
def test_weights_must_be_initializers(form: str) -> None:
    inputs, _ = sample(form, (1, 1))
    del inputs["data"]
    with pytest.raises(Exception, match=f"{FUNCTIONS[form]}: data 'data' must be an initializer"):
        session(model(form, inputs))


def test_nan_stays_in_its_token() -> None:
    inputs, weight = sample("csr-int8", (1, 1))
    opened = session(model("csr-int8", inputs))
    x = RANDOM.standard_normal((1, 40, IN)).astype(np.float32)
    x[0, 7, 3] = np.nan
    (y,) = opened.run(None, {"x": x})
    assert np.isnan(y[0, 7]).all()
    rest = np.delete(x, 7, axis=1)
    expected, bound = exact(rest, inputs, weight)
    assert np.all(np.abs(np.delete(y, 7, axis=1) - expected) <= bound)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [form for form in FUNCTIONS if not form.endswith("int8")])
def test_nan_and_inf_affect_only_rows_with_an_entry_in_their_column(form: str, value: float) -> None:
    inputs, weight = sample(form, (1, 1))
    opened = session(model(form, inputs))
    x = RANDOM.standard_normal((1, 40, IN)).astype(np.float32)
    before = opened.run(None, {"x": x})[0].copy()
    x[0, 7, 3] = value
    (y,) = opened.run(None, {"x": x})
    reached = weight[:, 3] != 0
    assert not np.isfinite(y[0, 7, reached]).any()
    before[0, 7, reached] = y[0, 7, reached]
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("in_features", [0, -1, 2**31, 2**62, 2**63 - 1])
def test_load_rejects_in_features_out_of_range(in_features: int) -> None:
    inputs, _ = sample("csr", (1, 1))
    with pytest.raises(Exception, match=f"CsrLinear_v1: in_features: dimension {in_features} is not in"):
        session(model("csr", inputs, in_features=in_features))


@pytest.mark.parametrize("in_features", [2**20 + 1, 2**31 - 1])
@pytest.mark.parametrize("form", ["csr", "csr-fp16", "csr-int8"])
def test_load_rejects_in_features_above_the_limit(form: str, in_features: int) -> None:
    inputs, _ = sample(form, (1, 1))
    with pytest.raises(
        Exception, match=rf"Linear\w*_v1 'q': in_features: {in_features} columns are more than the 1048576"
    ):
        session(model(form, inputs, in_features=in_features, node="q"))


@pytest.mark.parametrize("form", ["csr", "csr-fp16"])
def test_widest_matrix_takes_little_memory(form: str) -> None:
    inputs, _ = sample(form, (1, 1))
    inputs["indices"] = inputs["indices"].astype(np.int32)
    last = inputs["indptr"][1:][np.diff(inputs["indptr"]) > 0] - 1
    inputs["indices"][last] = 2**20 - 1
    data = model(form, inputs, in_features=2**20)
    before = resident()
    opened = [session(data) for _ in range(10)]
    # Tables of 2^31 columns would take 600 MB each.
    assert resident() - before < 100e6
    x = RANDOM.standard_normal((1, 1, 2**20)).astype(np.float32)
    expected = inputs["bias"].astype(np.float64)
    for row in range(OUT):
        here = slice(*inputs["indptr"][row : row + 2])
        expected[row] += x[0, 0, inputs["indices"][here]] @ inputs["data"][here].astype(np.float64)
    np.testing.assert_allclose(opened[0].run(None, {"x": x})[0][0, 0], expected, atol=1e-4)


def test_load_rejects_int8_weights_with_too_many_columns() -> None:
    inputs, _ = sample("csr-int8", (1, 1))
    with pytest.raises(Exception, match="CsrLinearInt8_v1: in_features: 65537 columns of eight-bit weights"):
        session(model("csr-int8", inputs, in_features=65537))


def test_run_rejects_x_of_another_width() -> None:
    inputs, _ = sample("csr", (1, 1))
    opened = session(model("csr", inputs, node="query"))
    with pytest.raises(Exception, match="CsrLinear_v1 'query': x must end in dimension 36, not"):
        opened.run(None, {"x": np.zeros((1, 2, IN + 1), np.float32)})


@pytest.mark.parametrize("isa", [isa for isa in isas() if not isa.available], ids=lambda isa: isa.name)
def test_load_rejects_unavailable_instruction_set(isa: Isa, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ", ".join(known.name for known in isas() if known.available)
    monkeypatch.setenv("AEROGEL_ISA", isa.name)
    inputs, _ = sample("csr", (1, 1))
    message = f"AEROGEL_ISA: {isa.name} is not available ({isa.reason}); available here: {here}"
    with pytest.raises(Exception, match=re.escape(message)):
        session(model("csr", inputs))


def test_load_rejects_unknown_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_ISA", "sse")
    inputs, _ = sample("csr", (1, 1))
    with pytest.raises(Exception, match="AEROGEL_ISA: unknown instruction set 'sse'; available here: scalar"):
        session(model("csr", inputs))


@pytest.mark.parametrize("form", FUNCTIONS)
def test_tensors_may_be_at_any_file_offset(form: str, tmp_path: Path) -> None:
    inputs, _ = sample(form, (4, 1) if form in BLOCKED else (1, 1))
    x = RANDOM.standard_normal((1, 40, IN)).astype(np.float32)
    (expected,) = session(model(form, inputs)).run(None, {"x": x})
    moved, weights = onnx.ModelProto.FromString(model(form, inputs)), b""
    for tensor in moved.graph.initializer:
        # Odd offsets from a page boundary, so that addresses in the mapping are odd too.
        weights += b"\0" * (-len(weights) % 4096 + 1)
        for key, value in (("location", "w"), ("offset", len(weights)), ("length", len(tensor.raw_data))):
            tensor.external_data.add(key=key, value=str(value))
        weights += tensor.raw_data
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
    (tmp_path / "w").write_bytes(weights)
    (tmp_path / "m.onnx").write_bytes(moved.SerializeToString())
    np.testing.assert_array_equal(session(tmp_path / "m.onnx").run(None, {"x": x})[0], expected)


def test_run_rejects_unaligned_input() -> None:
    inputs, _ = sample("csr", (1, 1))
    memory = np.zeros(4 * 2 * IN + 1, np.uint8)
    x = memory[1 - memory.ctypes.data % 2 :][: 4 * 2 * IN].view(np.float32).reshape(1, 2, IN)
    assert x.ctypes.data % 4
    with pytest.raises(Exception, match="an input lies at an address that is not a multiple of 4"):
        session(model("csr", inputs)).run(None, {"x": x})


def test_sessions_share_the_registration() -> None:
    inputs, _ = sample("csr", (1, 1))
    data = model("csr", inputs)
    opened = [session(data) for _ in range(3)]
    for _ in range(200):
        onnxruntime.SessionOptions().register_custom_ops_library(aerogel.library_path())
    x = np.ones((1, 2, IN), np.float32)
    first, *others = (each.run(None, {"x": x})[0] for each in opened)
    for other in others:
        np.testing.assert_array_equal(other, first)
