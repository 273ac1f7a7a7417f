from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aerogel import checkpoint, runtime
from aerogel.errors import (
    AerogelError,
    CheckpointError,
    DataError,
    MissingExtraError,
    ParityError,
    UsageError,
)
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.export.targets import onnx as onnx_target
from aerogel.export.torch_reference import TorchReference
from aerogel.sparse.formats import FORMATS
from aerogel.system.atomic_io import sha256

Once = Callable[..., Path]


@pytest.mark.parametrize("form", ["csr", "bsr", "bitmask", "dense"])
def test_artifact_is_small_verified_and_described(capture_once: Once, tmp_path: Path, form: str) -> None:
    path = capture_once("bert")
    out = tmp_path / "out" / f"{form}.onnx"
    steps: list[tuple[str, int, int]] = []
    document = export(ExportConfig(path, out, format=form), lambda *step: steps.append(step))

    assert json.loads(out.with_suffix(".manifest.json").read_text()) == document
    assert (document["bytes"], document["sha256"]) == (out.stat().st_size, sha256(out))
    if form == "dense":
        assert document["functions"] == []
        assert document["fusions"] == {}
    else:
        assert document["functions"] == [f"{form.capitalize()}Linear_v1", "Encoder_v1"]
        assert document["fusions"] == {"post-layernorm": {"layers": 2, "found": 2, "reason": ""}}
    assert document["opset"] == {"ai.onnx": 18} | ({} if form == "dense" else {"aerogel": 1})
    assert [value["name"] for value in document["inputs"]] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    assert document["outputs"] == [{"name": "logits", "dtype": "float32", "shape": ["batch", 2]}]
    assert (document["source"]["method"], document["source"]["block"]) == ("random", [1, 1])
    assert document["density"] == pytest.approx(0.1, abs=1e-3)
    for runner in ("onnxruntime",) if form == "dense" else ("onnxruntime", "aerogel"):
        found = document["parity"][runner]["bundled"]
        assert found["relative"] <= document["parity"]["tolerance"]
        assert found["shapes"] >= 7
        assert found["agreeing"] == found["labels"] == found["texts"]
    if form == "dense":
        assert document["parity"]["aerogel"] == {"not_checked": "no node of the model has a sparse kernel"}
    assert [step for step in steps if step[0] == "capture"] == [("capture", 0, 1), ("capture", 1, 1)]
    verified = [step for step in steps if step[0] == "verify"]
    assert [step[1] for step in verified] == list(range(1, len(verified) + 1))
    assert {step[2] for step in verified} == {len(verified)}
    for name, digest in document["companions"].items():
        assert sha256(out.parent / name) == digest
        assert name == "tokenizer.json" or digest == sha256(path / name)


@pytest.mark.parametrize("head", ["TokenClassification", "QuestionAnswering", ""])
def test_outputs_per_token_agree_where_tokens_are_real(capture_once: Once, tmp_path: Path, head: str) -> None:
    document = export(ExportConfig(capture_once("bert", head, num_hidden_layers=1), tmp_path / "m.onnx"))
    assert document["fusions"] == {"post-layernorm": {"layers": 1, "found": 1, "reason": ""}}
    for runner in ("onnxruntime", "aerogel"):
        found = document["parity"][runner]["bundled"]
        assert found["agreeing"] == found["labels"]
        assert (found["labels"] == 0) == (head == "")


@pytest.mark.parametrize("rounded", [{}, {"weights": "int8", "embeddings": "int8"}])
def test_heads_of_pretraining_are_exported_and_agree(
    capture_once: Once, tmp_path: Path, rounded: dict[str, str]
) -> None:
    path = capture_once("bert", "PreTraining", density=0.3)
    document = export(ExportConfig(path, tmp_path / "m.onnx", **rounded))
    assert [(value["name"], value["shape"]) for value in document["outputs"]] == [
        ("prediction_logits", ["batch", "sequence", 123]),
        ("seq_relationship_logits", ["batch", 2]),
    ]
    assert document["fusions"] == {"post-layernorm": {"layers": 2, "found": 2, "reason": ""}}
    for runner in ("onnxruntime", "aerogel"):
        found = document["parity"][runner]["bundled"]
        assert found["labels"] > 2 * found["texts"]
        assert found["agreeing"] >= (found["labels"] if not rounded else 0.9 * found["labels"])


def test_file_holds_the_packed_matrices_and_not_the_dense_ones(capture_once: Once, tmp_path: Path) -> None:
    path = capture_once("bert")
    document = export(ExportConfig(path, tmp_path / "m.onnx"))
    stored = {
        value.name: numpy_helper.to_array(value) for value in onnx.load(tmp_path / "m.onnx").graph.initializer
    }
    loaded = checkpoint.load(path)
    assert len(loaded.masks) == 12
    for name, mask in loaded.masks.items():
        arrays = {key: stored[f"{name}.{key}"] for key in ("data", "indices", "indptr")}
        assert document["matrices"][name]["arrays"] == {
            key: {"dtype": array.dtype.name, "shape": list(array.shape)} for key, array in arrays.items()
        }
        assert document["matrices"][name]["bytes"] == sum(array.nbytes for array in arrays.values())
        np.testing.assert_array_equal(FORMATS.get("csr").decode(arrays, mask.shape) != 0, mask)
        assert name not in stored
        assert f"{name}.transposed" not in stored


@pytest.mark.parametrize("weights", ["fp32", "fp16", "int8"])
def test_bitmask_is_smaller_than_csr_and_computes_the_same(
    capture_once: Once, tmp_path: Path, weights: str
) -> None:
    path = capture_once("bert", density=0.2)
    feed = {name: np.ones((2, 9), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    found = {}
    for form in ("csr", "bitmask"):
        out = tmp_path / f"{form}.onnx"
        document = export(ExportConfig(path, out, format=form, weights=weights))
        assert document["fusions"]["post-layernorm"]["layers"] == 2
        found[form] = (document["sizes"]["encoder"], runtime.session(out).run(None, feed)[0])
    assert found["bitmask"][0] < found["csr"][0]
    # Unpacked, the two are the same matrices.
    np.testing.assert_array_equal(found["bitmask"][1], found["csr"][1])


def test_mixed_file_keeps_dense_what_is_too_dense(capture_once: Once, tmp_path: Path) -> None:
    path = capture_once("bert", density=0.5, scope="global", num_hidden_layers=1)
    kept = checkpoint.load(path).accounting.matrices
    limit = sorted(m.density for m in kept.values())[2]
    export(ExportConfig(path, tmp_path / "m.onnx", max_density=limit, fuse=False))
    calls = {node.name for node in onnx.load(tmp_path / "m.onnx").graph.node if node.domain}
    assert calls == {name.removesuffix(".weight") for name, m in kept.items() if m.density <= limit}
    assert len(calls) == 3
    export(ExportConfig(path, tmp_path / "fused.onnx", max_density=limit))
    kinds = next(
        attribute.s.decode()
        for node in onnx.load(tmp_path / "fused.onnx").graph.node
        for attribute in node.attribute
        if attribute.name == "matrices"
    )
    # The checkpoint's order is q, k, v, o, ffn1, ffn2, as the encoder's is.
    assert kinds.split() == ["csr" if m.density <= limit else "dense" for m in kept.values()]


def test_inlined_file_has_no_functions_and_the_same_outputs(capture_once: Once, tmp_path: Path) -> None:
    path = capture_once("bert")
    export(ExportConfig(path, tmp_path / "m.onnx"))
    document = export(ExportConfig(path, tmp_path / "inlined.onnx", inline=True))
    proto = onnx.load(tmp_path / "inlined.onnx")
    assert not proto.functions
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert not {node.domain for node in proto.graph.node} - {""}
    assert "not_checked" in document["parity"]["aerogel"]
    feed = {name: np.ones((2, 9), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    one, other = (
        runtime.session(tmp_path / name, library=False).run(None, feed)[0]
        for name in ("m.onnx", "inlined.onnx")
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_the_file_can_be_quantised_by_onnxruntime(capture_once: Once, tmp_path: Path, form: str) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = tmp_path / "m.onnx"
    export(ExportConfig(capture_once("bert"), path, format=form))
    quantize_dynamic(path, tmp_path / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    assert runtime.session(tmp_path / "int8.onnx").get_outputs()[0].name == "logits"
    names = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert ("Encoder_v1" in names) == (form == "csr")


@pytest.mark.parametrize(
    ("content", "lines"), [("the film\ngood\n\n", 3), ("is it good?\tthe film is good\nno\tyes", 2)]
)
def test_every_line_of_a_file_is_compared(
    capture_once: Once, tmp_path: Path, content: str, lines: int
) -> None:
    texts = tmp_path / "texts.tsv"
    texts.write_text(content)
    document = export(ExportConfig(capture_once("bert"), tmp_path / "m.onnx", verify_text=texts))
    for runner in ("onnxruntime", "aerogel"):
        found = document["parity"][runner]["file"]
        assert found["texts"] == found["labels"] == found["agreeing"] == lines


def test_checkpoint_without_masks_is_dense_and_fused(capture_once: Once, tmp_path: Path) -> None:
    document = export(ExportConfig(capture_once("bert", density=1, num_hidden_layers=1), tmp_path / "m.onnx"))
    assert {matrix["format"] for matrix in document["matrices"].values()} == {"dense"}
    assert document["functions"] == ["Encoder_v1"]


def test_without_the_library_the_report_says_so(
    capture_once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    document = export(ExportConfig(capture_once("bert"), tmp_path / "m.onnx"))
    assert document["parity"]["aerogel"] == {"not_checked": "the native library is not built on this machine"}
    assert "bundled" in document["parity"]["onnxruntime"]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_failing_artifact_is_not_left_behind(
    capture_once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = capture_once("bert")
    out = tmp_path / "out" / "m.onnx"
    monkeypatch.setattr(TorchReference, "tolerance", 1e-12)
    with pytest.raises(ParityError, match=r"output logits differs .* \(onnxruntime, batch"):
        export(ExportConfig(path, out))
    assert left(tmp_path) == []


def test_earlier_artifact_survives_a_failing_one(
    capture_once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = capture_once("bert"), tmp_path / "m.onnx"
    export(ExportConfig(path, out))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(TorchReference, "tolerance", 1e-12)
    with pytest.raises(ParityError):
        export(ExportConfig(path, out, format="dense"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_one_wrong_value_in_a_packed_matrix_is_caught(
    capture_once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = capture_once("bert")
    write = onnx_target.Onnx.write

    def spoil(self: Any, model: Any, file: Path, *, inline: bool) -> Any:
        value = model.graph.initializers["bert.encoder.layer.1.output.dense.weight.data"]
        value.const_value.numpy()[7] += 0.05
        return write(self, model, file, inline=inline)

    monkeypatch.setattr(onnx_target.Onnx, "write", spoil)
    with pytest.raises(ParityError):
        export(ExportConfig(path, tmp_path / "m.onnx"))
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source": Path("/nowhere")}, UsageError, "/nowhere does not exist"),
        ({"target": "tflite"}, UsageError, "unknown target 'tflite'; known: bundle, "),
        ({"format": "coo"}, UsageError, "unknown format 'coo'; known: bitmask, bsr, csr"),
        ({"format": "bsr", "block": (3, 1)}, UsageError, "block 3x1 does not divide"),
        ({"format": "csr", "block": (2, 2)}, UsageError, "--block does not apply"),
        ({"weights": "int4"}, UsageError, "unknown value type 'int4'; known: fp16, fp32, int8"),
        ({"embeddings": "fp8"}, UsageError, "unknown value type 'fp8'"),
        ({"max_density": 2.0}, UsageError, "--max-density 2.0"),
        ({"out": Path("model.bin")}, UsageError, r"must name a file that ends in \.onnx"),
        ({"verify_text": Path("none.txt")}, DataError, r"none\.txt cannot be read"),
    ],
)
def test_bad_requests_fail_before_the_model_is_loaded(
    tiny_checkpoint: Once, tmp_path: Path, changes: dict[str, Any], error: type[AerogelError], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("aerogel.export.torch_reference.load_reference", lambda _: pytest.fail("loaded"))
    with pytest.raises(error, match=message):
        export(ExportConfig(**{"source": tiny_checkpoint("bert"), "out": tmp_path / "m.onnx"} | changes))
    assert left(tmp_path) == []


def test_mask_that_disagrees_with_its_weights_is_refused(tiny_checkpoint: Once, tmp_path: Path) -> None:
    path = tmp_path / "ckpt"
    shutil.copytree(tiny_checkpoint("bert"), path)
    shutil.copy(tiny_checkpoint("bert", seed=1) / "masks.safetensors", path)
    with pytest.raises(CheckpointError, match=r"masks\.safetensors"):
        export(ExportConfig(path, tmp_path / "out" / "m.onnx"))
    assert not (tmp_path / "out").exists()


def test_function_the_matrix_of_which_breaks_the_rules_is_refused_at_load(
    capture_once: Once, tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    export(ExportConfig(capture_once("bert"), out))
    proto = onnx.load(out)
    broken = next(value for value in proto.graph.initializer if value.name.endswith("key.weight.indices"))
    array = numpy_helper.to_array(broken).copy()
    array[0] = 60_000
    broken.CopyFrom(numpy_helper.from_array(array, broken.name))
    onnx.save(proto, out)
    runners = onnx_target.TARGET
    with pytest.raises(AerogelError, match=r"m\.onnx cannot be loaded"):
        runners.runners(out)


def test_without_torch_the_extra_is_named(
    tiny_checkpoint: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_checkpoint()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingExtraError, match=r"torch is not installed; run: pip install 'aerogel\[export\]'"
    ):
        export(ExportConfig(path, tmp_path / "m.onnx"))
    assert list(tmp_path.iterdir()) == []
