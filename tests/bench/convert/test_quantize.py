from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from aerogel.bench.backends import BACKENDS
from aerogel.bench.convert import quantize
from aerogel.bench.convert.decompose import decompose
from aerogel.bench.convert.qdq_to_int import qdq_to_int
from aerogel.bench.convert.quantize import dynamic, lacks_vnni, static, weight_note
from aerogel.errors import ExportError

Make = Callable[[], Path]


def run(path: Path, ids: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(path).run(None, {"input_ids": ids})[0])


def error(path: Path, model: Path) -> float:
    ids = np.random.default_rng(9).integers(0, 30, (2, 5))
    expected = run(model, ids)
    return float(np.abs(run(path, ids) - expected).max() / np.abs(expected).max())


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def stored(path: Path, name: str) -> np.ndarray:
    return numpy_helper.to_array(
        next(item for item in onnx.load(path).graph.initializer if item.name == name)
    )


def suffix() -> str:
    return "-7bit" if lacks_vnni() else ""


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_has_integer_products_and_small_weights(
    layer_model: Make, tmp_path: Path, per_channel: bool
) -> None:
    model = layer_model()
    made = dynamic(model, tmp_path / "made" / "int8.onnx", per_channel=per_channel)
    assert operators(made)["MatMulInteger"] == 2
    assert 1e-5 < error(made, model) < 0.05
    assert stored(made, "w1_scale").size == (12 if per_channel else 1)
    assert [file.name for file in made.parent.iterdir()] == [f"int8{suffix()}.onnx"]


@pytest.mark.parametrize("per_channel", [False, True])
def test_static_quantises_inputs_and_weights_of_products(
    layer_model: Make, tmp_path: Path, per_channel: bool
) -> None:
    model, out = layer_model(), tmp_path / "made" / "qdq.onnx"
    made = static(model, out, per_channel=per_channel)
    assert (operators(made)["QuantizeLinear"], operators(made)["DequantizeLinear"]) == (2, 4)
    assert 1e-5 < error(made, model) < 0.05
    assert stored(made, "w1_quantized").dtype == np.int8
    assert stored(made, "w1_scale").size == (12 if per_channel else 1)
    assert static(model, out, per_channel=per_channel) == made
    assert [file.name for file in made.parent.iterdir()] == [f"qdq{suffix()}.onnx"]


@pytest.mark.parametrize("per_channel", [False, True])
def test_integer_products_equal_the_quantised_file(
    layer_model: Make, tmp_path: Path, per_channel: bool
) -> None:
    model = layer_model()
    quantised = static(model, tmp_path / "made" / "qdq.onnx", per_channel=per_channel)
    made = decompose(quantised, tmp_path / "made" / "2x5.onnx", 2, 5, qdq_to_int)
    found = operators(made)
    assert (found["MatMulInteger"], found["MatMul"], found["DequantizeLinear"]) == (2, 0, 0)
    # The residual connection reads the quantised values in one file and the original ones in the other.
    assert 1e-6 < error(made, model) < 0.05
    bias = next(
        item for item in onnx.load(made).graph.initializer if item.data_type == onnx.TensorProto.INT32
    )
    assert list(bias.dims) == [12]


@pytest.mark.parametrize("convert", [dynamic, static])
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_have_seven_bits_only_on_a_cpu_without_vnni(
    layer_model: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    convert: Callable[..., Path],
    per_channel: bool,
) -> None:
    model, largest = layer_model(), {}
    for reduced in (False, True):
        monkeypatch.setattr(quantize, "lacks_vnni", lambda reduced=reduced: reduced)
        made = convert(model, tmp_path / "made" / "model.onnx", per_channel=per_channel)
        assert made.name == ("model-7bit.onnx" if reduced else "model.onnx")
        largest[reduced] = int(np.abs(stored(made, "w1_quantized").astype(int)).max())
    assert 120 <= largest[False] <= 128
    assert 60 <= largest[True] <= 64
    # Seven bits are right on every CPU.
    assert error(tmp_path / "made" / "model-7bit.onnx", model) < 0.05


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", ["avx2", "fma"], True),
        ("x86_64", ["avx2", "avx512bw", "avx512f"], True),
        ("AMD64", [], True),
        ("x86_64", ["avx2", "avx_vnni"], False),
        ("x86_64", ["avx512_vnni", "avx512f"], False),
        ("aarch64", ["asimd"], False),
        ("arm64", [], False),
    ],
)
def test_only_x86_without_vnni_lacks_it(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: list[str], expected: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(quantize, "cpu_features", lambda: features)
    assert lacks_vnni() is expected


def test_the_note_follows_the_file() -> None:
    note = ", 7-bit weights as the CPU lacks VNNI"
    assert weight_note(Path("work/per-tensor-7bit.onnx")) == note
    assert weight_note(Path("work/qdq-7bit/1x4.onnx")) == note
    assert weight_note(Path("work/per-tensor.onnx")) == ""


@pytest.mark.parametrize("reduced", [False, True])
def test_the_int8_backend_reports_seven_bits_in_its_details(
    layer_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduced: bool
) -> None:
    monkeypatch.setattr(quantize, "lacks_vnni", lambda: reduced)
    backend = BACKENDS.get("onnxruntime-int8")
    path = backend.prepare(layer_model(), "per-tensor", tmp_path / "work", 1, 4)
    details = backend.open(path, 1, "per-tensor", 1, 4).details
    assert details == ("onnxruntime-int8, 7-bit weights as the CPU lacks VNNI" if reduced else "")


def test_deepsparse_keeps_weights_of_seven_and_eight_bits_apart(
    layer_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, backend = layer_model(), BACKENDS.get("deepsparse-int8")
    paths = []
    for reduced in (False, True):
        monkeypatch.setattr(quantize, "lacks_vnni", lambda reduced=reduced: reduced)
        paths.append(backend.prepare(model, "single_stream", tmp_path / "work", 1, 4))
    assert [path.relative_to(tmp_path / "work").as_posix() for path in paths] == [
        "qdq/1x4.onnx",
        "qdq-7bit/1x4.onnx",
    ]
    assert [weight_note(path) != "" for path in paths] == [False, True]


def test_a_model_without_products_is_refused(token_model: Callable[..., Path], tmp_path: Path) -> None:
    path = token_model("model.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.op_type = "Add"
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"model\.onnx has no MatMul with a constant weight"):
        static(path, tmp_path / "made" / "qdq.onnx", per_channel=True)
    assert list((tmp_path / "made").iterdir()) == []


def test_an_error_of_the_quantiser_is_one_line(layer_model: Make, tmp_path: Path) -> None:
    path = layer_model()
    (tmp_path / "config.json").write_text('{"vocab_size": 9999}')
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot quantise .*layer\.onnx: ") as caught:
        static(path, tmp_path / "made" / "qdq.onnx", per_channel=True)
    assert "\n" not in str(caught.value)
