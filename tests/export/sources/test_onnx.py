from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import aerogel
from aerogel.errors import AerogelError, ExportError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export

WIDTH, WORDS = 16, 40
IDS = np.array([[3, 9, 5, 1], [7, 2, 0, 0]])


def weight(rows: int, cols: int, seed: int) -> np.ndarray:
    """Float32 ``[rows, cols]``, nine tenths of it zeros."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((rows, cols)).astype(np.float32)
    values[generator.random((rows, cols)) < 0.9] = 0
    return values


def model(
    body: str, initializers: dict[str, np.ndarray], opset: int = 18, sequence: str = "sequence"
) -> onnx.ModelProto:
    """An encoder of one layer: `body` makes y of x ``[batch, sequence, 16]``."""
    graph = onnx.parser.parse_graph(
        f"""encoder (int64[batch, {sequence}] input_ids, int64[batch, {sequence}] attention_mask)
              => (float[batch, {sequence}, {WIDTH}] last_hidden_state) {{
            x = Gather(words, input_ids)
            {body}
            real = Cast<to=1>(attention_mask)
            column = Unsqueeze(real, last)
            last_hidden_state = Mul(y, column)
        }}"""
    )
    words = np.random.default_rng(9).standard_normal((WORDS, WIDTH)).astype(np.float32)
    arrays = {"words": words, "last": np.array([2]), **initializers}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(path: Path, *, library: bool = True) -> np.ndarray:
    feed = {"input_ids": IDS, "attention_mask": (IDS > 0).astype(np.int64)}
    return np.asarray(aerogel.session(path, threads=1, library=library).run(None, feed)[0])


def meaning(path: Path) -> np.ndarray:
    """What a model computes as it is written; the optimizers of ONNX Runtime may round activations of 8-bit weights."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    feed = {"input_ids": IDS, "attention_mask": (IDS > 0).astype(np.int64)}
    return np.asarray(onnxruntime.InferenceSession(path, options).run(None, feed)[0])


BIAS = np.random.default_rng(2).standard_normal(WIDTH).astype(np.float32)
W = weight(WIDTH, WIDTH, 1)
SCALE = np.abs(W).max() / 127
Q = np.round(W / SCALE).astype(np.int8)
LAYERS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "matmul": ("p = MatMul(x, layer_w) y = Add(p, b)", {"layer_w": W.T.copy(), "b": BIAS}),
    "bias first": ("p = MatMul(x, layer_w) y = Add(b, p)", {"layer_w": W.T.copy(), "b": BIAS}),
    "transposed": (
        "t = Transpose<perm=[1, 0]>(layer_w) p = MatMul(x, t) y = Add(p, b)",
        {"layer_w": W, "b": BIAS},
    ),
    "no bias": ("y = MatMul(x, layer_w)", {"layer_w": W.T.copy()}),
    "cast": ("w = Cast<to=1>(layer_w) p = MatMul(x, w) y = Add(p, b)", {"layer_w": W.T.astype(np.float16), "b": BIAS}),
    "qdq": (
        "w = DequantizeLinear(layer_w, s, z) p = MatMul(x, w) y = Add(p, b)",
        {"layer_w": Q.T.copy(), "s": np.float32(SCALE), "z": np.int8(0), "b": BIAS},
    ),
    "qdq per row": (
        "w = DequantizeLinear<axis=0>(layer_w, s, z) t = Transpose<perm=[1, 0]>(w) p = MatMul(x, t) y = Add(p, b)",
        {"layer_w": Q, "s": np.full(WIDTH, SCALE, np.float32), "z": np.zeros(WIDTH, np.int8), "b": BIAS},
    ),
    "integers": (
        "xq, xs, xz = DynamicQuantizeLinear(x) i = MatMulInteger(xq, layer_w, xz, z) f = Cast<to=1>(i) "
        "m = Mul(xs, s) p = Mul(f, m) y = Add(p, b)",
        {"layer_w": Q.T.copy(), "s": np.float32(SCALE), "z": np.int8(0), "b": BIAS},
    ),
    "qlinear": (
        "xq = QuantizeLinear(x, xs, xz) yq = QLinearMatMul(xq, xs, xz, layer_w, s, z, ys, yz) "
        "p = DequantizeLinear(yq, ys, yz) y = Add(p, b)",
        {
            "layer_w": Q.T.copy(), "s": np.float32(SCALE), "z": np.int8(0), "b": BIAS, "xs": np.float32(0.03),
            "xz": np.uint8(128), "ys": np.float32(0.05), "yz": np.uint8(128),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_every_spelling_of_a_linear_layer_comes_out_sparse_and_equal(tmp_path: Path, kind: str) -> None:
    onnx.save(model(*LAYERS[kind]), tmp_path / "in.onnx")
    document = export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    (matrix,) = document["matrices"].values()
    assert matrix["format"] == "csr"
    assert matrix["kept"] == np.count_nonzero(W if "q" not in kind and kind != "integers" else Q)
    assert document["functions"] == ["CsrLinear_v1"]
    expected = meaning(tmp_path / "in.onnx")
    bound = 0.06 if kind == "qlinear" else 1e-5  # qlinear rounds its result to steps of 0.05
    for library in (False, True):
        found = run(tmp_path / "out" / "model.onnx", library=library)
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound * max(1, np.abs(expected).max()))


def test_neither_torch_nor_transformers_is_needed(tmp_path: Path) -> None:
    onnx.save(model(*LAYERS["matmul"]), tmp_path / "in.onnx")
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from aerogel.export.config import ExportConfig\nfrom aerogel.export.run import export\n"
        f"export(ExportConfig(Path({str(tmp_path / 'in.onnx')!r}), Path({str(tmp_path / 'out' / 'm.onnx')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "m.onnx").is_file()


@pytest.mark.parametrize("opset", [14, 17, 21])
def test_other_operator_sets_are_brought_to_ours(tmp_path: Path, opset: int) -> None:
    onnx.save(model(*LAYERS["matmul"], opset=opset), tmp_path / "in.onnx")
    export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    np.testing.assert_allclose(
        run(tmp_path / "out" / "model.onnx"), run(tmp_path / "in.onnx", library=False), atol=1e-5
    )


def test_a_fixed_sequence_length_stays_fixed(tmp_path: Path) -> None:
    onnx.save(model(*LAYERS["matmul"], sequence="4"), tmp_path / "in.onnx")
    document = export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    assert document["inputs"][0]["shape"][1] == 4
    assert document["max_length"] == 4
    np.testing.assert_allclose(
        run(tmp_path / "out" / "model.onnx"), run(tmp_path / "in.onnx", library=False), atol=1e-5
    )


def test_half_precision_is_widened(tmp_path: Path) -> None:
    body = "h = Cast<to=10>(x) p = MatMul(h, layer_w) q = Add(p, b) y = Cast<to=1>(q)"
    made = model(body, {"layer_w": W.T.astype(np.float16), "b": BIAS.astype(np.float16)})
    onnx.save(made, tmp_path / "in.onnx")
    document = export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    assert document["functions"] == ["CsrLinear_v1"]
    found, expected = run(tmp_path / "out" / "model.onnx"), run(tmp_path / "in.onnx", library=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize("inside", [True, False])
def test_external_data_is_read_from_the_models_folder_only(tmp_path: Path, inside: bool) -> None:
    made = model(*LAYERS["matmul"])
    (tmp_path / "m").mkdir()
    onnx.save(
        made,
        tmp_path / "m" / "in.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=100,
    )
    if inside:
        export(ExportConfig(tmp_path / "m" / "in.onnx", tmp_path / "out" / "model.onnx"))
        return
    (tmp_path / "m" / "weights.bin").rename(tmp_path / "weights.bin")
    proto = onnx.load(tmp_path / "m" / "in.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    (tmp_path / "m" / "in.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ExportError, match="outside of the model's folder"):
        export(ExportConfig(tmp_path / "m" / "in.onnx", tmp_path / "out" / "model.onnx"))


NODES, OPSETS = [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 18)]


def damage_nothing(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]


def damage_ours(proto: onnx.ModelProto) -> None:
    proto.functions.append(
        helper.make_function(
            "aerogel",
            "CsrLinear_v1",
            ["x"],
            ["y"],
            [helper.make_node("Identity", ["x"], ["y"])],
            [helper.make_opsetid("", 18)],
        )
    )


def damage_inputs(proto: onnx.ModelProto) -> None:
    proto.graph.input[1].name = "pixel_values"
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = "pixel_values" if name == "attention_mask" else name


def damage_operator(proto: onnx.ModelProto) -> None:
    next(node for node in proto.graph.node if node.op_type == "MatMul").op_type = "NoSuchOperator"


def damage_external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "missing.bin"), ("offset", "0"), ("length", "64")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing, "has no graph"),
        (damage_ours, "is an export already"),
        (damage_inputs, "a text encoder takes input_ids"),
        (damage_operator, "cannot be brought to opset"),
        (damage_external, "which does not exist"),
    ],
)
def test_hostile_files_are_one_line_and_leave_nothing(
    tmp_path: Path, damage: Callable[[onnx.ModelProto], None], message: str
) -> None:
    made = model(*LAYERS["matmul"])
    damage(made)
    (tmp_path / "in.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ExportError, match=message) as caught:
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 40])
def test_what_is_no_model_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.onnx").write_bytes(content)
    with pytest.raises(AerogelError, match=r"in\.onnx is not an ONNX model"):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    broken = W.copy()
    broken[np.nonzero(W)[0][0], np.nonzero(W)[1][0]] = np.nan
    onnx.save(model(LAYERS["no bias"][0], {"layer_w": broken.T.copy()}), tmp_path / "in.onnx")
    with pytest.raises(AerogelError):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    assert not (tmp_path / "out").exists()
