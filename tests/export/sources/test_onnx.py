from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import aerogel
from aerogel.errors import AerogelError, ExportError, ParityError
from aerogel.export import onnx_reference
from aerogel.export.config import ExportConfig
from aerogel.export.foreign_graph import normalize
from aerogel.export.run import export
from aerogel.export.targets import onnx as target

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
SHIFTED = (Q.astype(np.int16) // 2 + 3).astype(np.int8)  # the zeros of the matrix are 3
UNSIGNED = (Q.astype(np.int16) + 128).astype(np.uint8)
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
    # torch.nn.utils.prune without prune.remove, and NNCF's magnitude sparsity: a weight and its mask.
    "weight_mask": (
        "m = Mul(layer_w_orig, layer_w_mask) t = Transpose<perm=[1, 0]>(m) p = MatMul(x, t) y = Add(p, b)",
        {"layer_w_orig": W + (W == 0), "layer_w_mask": (W != 0).astype(np.float32), "b": BIAS},
    ),
    "boolean mask": (
        "c = Cast<to=1>(layer_mask) m = Mul(layer_w, c) t = Transpose<perm=[1, 0]>(m) p = MatMul(x, t) y = Add(p, b)",
        {"layer_w": W + (W == 0), "layer_mask": W != 0, "b": BIAS},
    ),
    "q zero point": (
        "w = DequantizeLinear(layer_w, s, z) p = MatMul(x, w) y = Add(p, b)",
        {"layer_w": SHIFTED.T.copy(), "s": np.float32(2 * SCALE), "z": np.int8(3), "b": BIAS},
    ),
    "q unsigned per column": (
        "w = DequantizeLinear<axis=1>(layer_w, s, z) p = MatMul(x, w) y = Add(p, b)",
        {
            "layer_w": UNSIGNED.T.copy(), "s": np.full(WIDTH, SCALE, np.float32), "z": np.full(WIDTH, 128, np.uint8),
            "b": BIAS,
        },
    ),
    # SparseML's quantization-aware training before its conversion, and neural-compressor: activations too.
    "q activations": (
        "xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz) w = DequantizeLinear(layer_w, s, z) "
        "t = Transpose<perm=[1, 0]>(w) p = MatMul(xd, t) y = Add(p, b)",
        {
            "layer_w": Q, "s": np.float32(SCALE), "z": np.int8(0), "b": BIAS, "xs": np.float32(0.03),
            "xz": np.uint8(128),
        },
    ),
    # The same after SparseML's conversion: an integer bias is added to the integer sums.
    "q integer bias": (
        "xq = QuantizeLinear(x, xs, xz) i = MatMulInteger(xq, layer_w, xz, z) j = Add(i, bi) f = Cast<to=1>(j) "
        "y = Mul(f, ys)",
        {
            "layer_w": UNSIGNED.T.copy(), "z": np.uint8(128), "xs": np.float32(0.03), "xz": np.uint8(128),
            "bi": np.round(BIAS / (0.03 * SCALE)).astype(np.int32), "ys": np.float32(0.03 * SCALE),
        },
    ),
    "q integers per column": (
        "xq, xs, xz = DynamicQuantizeLinear(x) i = MatMulInteger(xq, layer_w, xz, z) f = Cast<to=1>(i) "
        "m = Mul(xs, s) p = Mul(f, m) y = Add(p, b)",
        {
            "layer_w": Q.T.copy(), "s": np.full(WIDTH, SCALE, np.float32), "z": np.zeros(WIDTH, np.int8), "b": BIAS,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_every_spelling_of_a_linear_layer_comes_out_sparse_and_equal(tmp_path: Path, kind: str) -> None:
    onnx.save(model(*LAYERS[kind]), tmp_path / "in.onnx")
    document = export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    (matrix,) = document["matrices"].values()
    assert matrix["format"] == "csr"
    kept = {"q zero point": SHIFTED - 3, "integers": Q}.get(kind, Q if kind.startswith("q") else W)
    assert matrix["kept"] == np.count_nonzero(kept)
    assert document["functions"] == ["CsrLinear_v1"]
    expected = meaning(tmp_path / "in.onnx")
    # qlinear rounds its result to steps of 0.05.
    bound = {"qlinear": 0.06}.get(kind, 1e-5)
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


def test_weights_beyond_the_limit_of_one_file_go_in_and_out_with_external_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = model(*LAYERS["matmul"]), tmp_path / "out" / "model.onnx"
    large = np.random.default_rng(3).standard_normal((300, WIDTH)).astype(np.float32)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(large, "words"))
    onnx.save(made, tmp_path / "in.onnx", save_as_external_data=True, location="in.data", size_threshold=100)
    monkeypatch.setattr(target, "MAX_BYTES", 10_000)
    monkeypatch.setattr(onnx_reference, "_MAX_BYTES", 10_000)
    document = export(ExportConfig(tmp_path / "in.onnx", out))
    data = out.parent / document["external"]["file"]
    assert document["external"]["bytes"] == data.stat().st_size > 10_000 > out.stat().st_size
    assert document["external"]["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    for library in (False, True):
        np.testing.assert_allclose(run(out, library=library), meaning(tmp_path / "in.onnx"), atol=1e-5)
    # Another export of that name leaves one file of weights; the same one writes the same bytes.
    again = export(ExportConfig(tmp_path / "in.onnx", out))
    assert again["external"] == document["external"]
    monkeypatch.undo()
    assert "external" not in export(ExportConfig(tmp_path / "in.onnx", out))
    assert sorted(file.name for file in out.parent.iterdir()) == ["model.manifest.json", "model.onnx"]


def test_inline_is_refused_beyond_the_limit_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(model(*LAYERS["matmul"]), tmp_path / "in.onnx")
    monkeypatch.setattr(target, "MAX_BYTES", 1_000)
    with pytest.raises(ExportError, match=r"--inline cannot exceed"):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx", inline=True))
    assert not (tmp_path / "out").exists()


def damage_truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_flipped(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF if 200 <= number < 260 else byte for number, byte in enumerate(data))


@pytest.mark.parametrize("damage", [damage_truncated, damage_flipped])
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "in.onnx").write_bytes(damage(model(*LAYERS["matmul"]).SerializeToString()))
    with pytest.raises(AerogelError) as caught:
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_tensor_with_fewer_bytes_than_its_shape_is_named(tmp_path: Path) -> None:
    made = model(*LAYERS["matmul"])
    made.graph.initializer[0].dims[0] = 10**9
    (tmp_path / "in.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ExportError, match="words has 2,560 bytes, which do not fit its shape"):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))


@pytest.mark.parametrize("location", ["/etc/passwd", "a/../../weights.bin", ""])
def test_external_data_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    made = model(*LAYERS["matmul"])
    damage_external(made)
    made.graph.initializer[0].external_data[0].value = location
    (tmp_path / "in.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ExportError, match="outside of the model's folder"):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))


def test_external_data_that_is_too_short_is_named(tmp_path: Path) -> None:
    made = model(*LAYERS["matmul"])
    damage_external(made)
    (tmp_path / "in.onnx").write_bytes(made.SerializeToString())
    (tmp_path / "missing.bin").write_bytes(bytes(10))
    with pytest.raises(ExportError, match=r"missing\.bin is too short for words"):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))


def test_the_normal_form_is_compared_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(made: ir.Model) -> None:
        normalize(made)
        bias = made.graph.initializers["b"]
        bias.const_value = ir.tensor(BIAS + 1, name="b")

    onnx.save(model(*LAYERS["matmul"]), tmp_path / "in.onnx")
    monkeypatch.setattr(onnx_reference, "normalize", spoil)
    with pytest.raises(ParityError, match="normalized"):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    assert not (tmp_path / "out").exists()


def test_linear_layers_that_read_one_another_are_all_packed(tmp_path: Path) -> None:
    body = "p = MatMul(x, v) q = MatMul(p, layer_w) y = Add(q, b)"
    onnx.save(
        model(body, {"v": weight(WIDTH, WIDTH, 5), "layer_w": W.T.copy(), "b": BIAS}), tmp_path / "in.onnx"
    )
    document = export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
    assert [matrix["format"] for matrix in document["matrices"].values()] == ["csr", "csr"]


def test_a_table_of_positions_limits_the_length(tmp_path: Path) -> None:
    body = "n = Shape<start=1, end=2>(input_ids) r = Slice(table, zero, n, one) y = Add(x, r)"
    table = np.zeros((1, 21, WIDTH), np.float32)
    made = model(
        f"{body} ".replace("y =", "h =") + "p = MatMul(h, layer_w) y = Add(p, b)",
        {"table": table, "zero": np.array([0]), "one": np.array([1]), "layer_w": W.T.copy(), "b": BIAS},
    )
    onnx.save(made, tmp_path / "in.onnx")
    assert export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))["max_length"] == 21


def test_a_model_in_training_mode_is_refused(tmp_path: Path) -> None:
    body = "d, k = Dropout(x, ratio, training) p = MatMul(d, layer_w) y = Add(p, b)"
    arrays = {"ratio": np.float32(0.5), "training": np.bool_(True), "layer_w": W.T.copy(), "b": BIAS}
    onnx.save(model(body, arrays), tmp_path / "in.onnx")
    with pytest.raises(ExportError, match="was exported in training mode"):
        export(ExportConfig(tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"))
