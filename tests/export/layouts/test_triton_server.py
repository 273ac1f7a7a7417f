from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from aerogel.errors import ExportError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.layout import Placement
from aerogel.export.layouts.triton_server import LAYOUT
from aerogel.export.run import export
from aerogel.export.triton_config import is_unedited, triton_config
from aerogel.kernels.cpu.library import LIBRARY_VARIABLE
from aerogel.verify import verify_artifact

Checkpoint = Callable[..., Path]
PORTS = {
    "inputs": [
        {"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]},
        {"name": "attention_mask", "dtype": "int32", "shape": ["batch", "sequence"]},
    ],
    "outputs": [{"name": "sentence_embedding", "dtype": "float32", "shape": ["batch", 384]}],
}


@pytest.fixture(scope="session")
def model_config() -> Callable[[str], Any]:
    """Parses config.pbtxt by Triton's own model_config.proto."""
    package = importlib.util.find_spec("tritonclient")
    assert package is not None
    assert package.submodule_search_locations is not None
    # The package above the file imports grpc.
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda text: text_format.Parse(text, module.ModelConfig())


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "lib" / "libaerogel.so"
    file.parent.mkdir()
    file.write_bytes(b"library")
    monkeypatch.setenv(LIBRARY_VARIABLE, str(file))
    return file


def test_the_configuration_follows_tritons_proto(model_config: Callable[[str], Any]) -> None:
    text = triton_config("mini", PORTS, "/models/mini/1/libaerogel.so")
    config = model_config(text)
    assert (config.name, config.backend, config.max_batch_size) == ("mini", "onnxruntime", 64)
    assert [(port.name, port.data_type, list(port.dims)) for port in config.input] == [
        ("input_ids", 9, [-1]), ("attention_mask", 8, [-1]),
    ]  # fmt: skip
    assert [(port.name, port.data_type, list(port.dims)) for port in config.output] == [
        ("sentence_embedding", 11, [384])
    ]
    assert list(config.model_operations.op_library_filename) == ["/models/mini/1/libaerogel.so"]
    assert config.HasField("dynamic_batching")
    assert [(group.kind, group.count) for group in config.instance_group] == [(2, 1)]


def test_a_fixed_batch_is_part_of_the_dims(model_config: Callable[[str], Any]) -> None:
    ports = {kind: [port | {"shape": [2, *port["shape"][1:]]} for port in PORTS[kind]] for kind in PORTS}
    config = model_config(triton_config("mini", ports, None))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, -1]
    assert not config.HasField("dynamic_batching")
    assert not config.model_operations.op_library_filename


def test_a_type_without_a_name_in_triton_is_refused() -> None:
    ports = PORTS | {"outputs": [{"name": "y", "dtype": "bfloat16", "shape": ["batch"]}]}
    with pytest.raises(ExportError, match="output y is bfloat16"):
        triton_config("mini", ports, None)


def put(tmp_path: Path, out: Path, content: bytes, config: ExportConfig) -> None:
    """Place a model without exporting one."""
    artifact = tmp_path / "model.onnx"
    artifact.write_bytes(content)
    companions = LAYOUT.companions(tmp_path / "ckpt", tmp_path / "ckpt")
    manifest = {"aerogel": "0", "file": "model.onnx", "companions": dict.fromkeys(companions, "0"), **PORTS}
    LAYOUT.check(config, "", tmp_path / "ckpt", {})
    LAYOUT.place(Placement(artifact, manifest, companions, {}), config)
    assert (out / "1" / "model.onnx").read_bytes() == content


def test_the_folder_is_complete_and_can_be_replaced(tmp_path: Path, library: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "config.json").write_text("{}")
    out = tmp_path / "repository" / "mini"
    config = ExportConfig(tmp_path / "ckpt", out, target="triton-server", model_repository="/srv/")
    put(tmp_path, out, b"one", config)
    (out / "2").mkdir()
    put(tmp_path, out, b"two", config)
    found = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    assert found == {
        "config.pbtxt", "1", "1/model.onnx", "1/model.manifest.json", "1/config.json", "1/libaerogel.so", "2",
    }  # fmt: skip
    assert (out / "1" / "libaerogel.so").read_bytes() == library.read_bytes()
    assert 'op_library_filename: "/srv/mini/1/libaerogel.so"' in (out / "config.pbtxt").read_text()
    assert {path.name for path in out.parent.iterdir()} == {"mini"}
    # What the user changes or adds is not replaced.
    (out / "1" / "warmup").write_text("mine")
    with pytest.raises(UsageError, match="warmup exists and is not from an earlier export"):
        put(tmp_path, out, b"three", config)
    (out / "1" / "warmup").unlink()
    text = (out / "config.pbtxt").read_text()
    assert is_unedited(text)
    (out / "config.pbtxt").write_text(text.replace("count: 1", "count: 2"))
    with pytest.raises(UsageError, match=r"config\.pbtxt was edited"):
        put(tmp_path, out, b"three", config)
    assert (out / "1" / "model.onnx").read_bytes() == b"two"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a b", "names the model"),
        ("m.onnx", "writes a folder"),
        ("file", "writes a folder"),
        ("ckpt/m", "inside the checkpoint directory"),
    ],
)
def test_unusable_folders_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=message):
        LAYOUT.check(ExportConfig(tmp_path / "ckpt", tmp_path / name), "", tmp_path / "ckpt", {})


def test_without_the_library_only_inline_is_possible(
    tiny_checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_config: Callable[[str], Any],
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, "")
    checkpoint, out = tiny_checkpoint("bert", num_hidden_layers=1), tmp_path / "mini"
    with pytest.raises(UsageError, match=r"is not built on this machine; .* or add --inline"):
        export(ExportConfig(checkpoint, out, target="triton-server"))
    export(ExportConfig(checkpoint, out, target="triton-server", inline=True))
    config = model_config((out / "config.pbtxt").read_text())
    assert [port.name for port in config.output] == ["logits"]
    assert not config.model_operations.op_library_filename
    names = {check.name for check in verify_artifact(out, 1)}
    assert names == {"hashes", "structure", "outputs"}
