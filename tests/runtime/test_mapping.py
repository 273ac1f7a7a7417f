from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from aerogel.runtime import mapping
from aerogel.runtime.mapping import (
    ALIGNMENT,
    MIN_BYTES,
    align_initializers,
    external_files,
    externalize_initializers,
)

RANDOM = np.random.default_rng(0)
LARGE = {
    "w0": RANDOM.standard_normal((130, 131), np.float32),
    "w1": RANDOM.standard_normal((131, 140), np.float32),
}
FOLDER = "session.model_external_initializers_file_folder_path"


def model(tensors: dict[str, np.ndarray] = LARGE, **changes: Any) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["h"]), helper.make_node("MatMul", ["h", "w1"], ["y"])]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 130), ("y", 140))
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        values[:1],
        values[1:],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **changes)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


def locations(data: bytes) -> dict[str, dict[str, str]]:
    """external_data of each tensor of a message."""
    return {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.ModelProto.FromString(data).graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


@pytest.mark.parametrize("producer", ["", "p", "a producer of odd length" * 7])
def test_align_initializers_changes_only_the_offsets_of_tensors(producer: str, tmp_path: Path) -> None:
    whole = model(producer_name=producer)
    whole.graph.initializer[0].doc_string = "replaced by spaces"
    data = align_initializers(whole.SerializeToString())
    read = onnx.ModelProto.FromString(data)
    for tensor in read.graph.initializer:
        assert not tensor.doc_string.strip()
        assert data.index(tensor.raw_data) % ALIGNMENT == 0
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), LARGE[tensor.name])
        tensor.ClearField("doc_string")
    whole.graph.initializer[0].ClearField("doc_string")
    assert read == whole
    onnx.checker.check_model(write(tmp_path, data), full_check=True)


def test_externalized_models_run_alike(tmp_path: Path) -> None:
    path = write(tmp_path, align_initializers(model().SerializeToString()))
    short = externalize_initializers(path)
    assert short is not None
    assert len(short) < 1000 < 2 * MIN_BYTES < path.stat().st_size
    data = path.read_bytes()
    for name, location in locations(short).items():
        begin, length = int(location["offset"]), int(location["length"])
        assert location["location"] == "model.onnx"
        assert data[begin : begin + length] == LARGE[name].tobytes()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(FOLDER, str(tmp_path))
    inputs = {"x": RANDOM.standard_normal((3, 130), np.float32)}
    found, expected = (
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for source in (short, str(path))
    )
    np.testing.assert_array_equal(found, expected)


def test_small_and_unaligned_tensors_stay_in_the_message(tmp_path: Path) -> None:
    small = {**LARGE, "w1": LARGE["w1"][:, : MIN_BYTES // 4 // 131]}
    path = write(tmp_path, align_initializers(model(small).SerializeToString()))
    assert list(locations(externalize_initializers(path) or b"")) == ["w0"]
    whole = model()
    whole.producer_name = "p" * next(n for n in range(64) if _offset(whole, n) % ALIGNMENT == 1)
    assert "w0" not in locations(externalize_initializers(write(tmp_path, whole.SerializeToString())) or b"")


def _offset(whole: onnx.ModelProto, producer: int) -> int:
    changed = onnx.ModelProto()
    changed.CopyFrom(whole)
    changed.producer_name = "p" * producer
    return changed.SerializeToString().index(LARGE["w0"].tobytes())


def test_models_with_external_data_are_not_externalized(tmp_path: Path) -> None:
    whole = model()
    for tensor in whole.graph.initializer:
        tensor.external_data.add(key="location", value="other.bin")
    assert externalize_initializers(write(tmp_path, align_initializers(whole.SerializeToString()))) is None


def test_external_files_lists_the_locations(tmp_path: Path) -> None:
    whole = model()
    assert external_files(write(tmp_path, whole.SerializeToString())) == set()
    for tensor, location in zip(whole.graph.initializer, ("a.bin", "b/c.bin"), strict=True):
        tensor.external_data.add(key="offset", value="location")
        tensor.external_data.add(key="location", value=location)
    assert external_files(write(tmp_path, whole.SerializeToString())) == {"a.bin", "b/c.bin"}
    assert external_files(tmp_path / "nowhere.onnx") == set()


def test_models_with_some_external_data_are_not_externalized(tmp_path: Path) -> None:
    # If the path is a symbolic link, external data may be in another folder than the file.
    whole = model()
    whole.graph.initializer[0].external_data.add(key="location", value="other.bin")
    assert externalize_initializers(write(tmp_path, align_initializers(whole.SerializeToString()))) is None


@pytest.mark.parametrize("kept", [0, 4096, 5000])
def test_a_file_truncated_while_it_is_read_is_an_error(
    tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, align_initializers(model().SerializeToString()))
    plain = os.fstat

    def truncated(descriptor: int) -> os.stat_result:
        found = plain(descriptor)
        os.truncate(path, kept)
        return found

    monkeypatch.setattr(os, "fstat", truncated)
    # Reading a mapping would end the process.
    assert externalize_initializers(path) is None


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"\x3a\x80", b"\x3b\x00", b"\x3a\x00" * 2, b"\x38\x00"])
def test_malformed_files_are_left_to_onnx_runtime(data: bytes, tmp_path: Path) -> None:
    assert externalize_initializers(write(tmp_path, data)) is None
    with pytest.raises(ValueError):  # noqa: PT011  # the message does not matter
        align_initializers(data)


def test_unreadable_files_are_left_to_onnx_runtime(tmp_path: Path) -> None:
    assert externalize_initializers(tmp_path / "nowhere.onnx") is None
    assert externalize_initializers(tmp_path) is None


def test_align_initializers_does_not_copy_large_tensors_repeatedly(monkeypatch: pytest.MonkeyPatch) -> None:
    # They must not be copied for every number of spaces tried.
    sizes: list[int] = []
    plain = mapping._message
    monkeypatch.setattr(
        mapping, "_message", lambda number, value: sizes.append(len(value)) or plain(number, value)
    )
    align_initializers(model().SerializeToString())
    assert max(sizes) < MIN_BYTES


def test_truncated_and_damaged_files_do_not_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "MIN_BYTES", 64)
    tiny = {"w0": np.ones((2, 16), np.float32), "w1": np.ones((16, 2), np.float32)}
    data = align_initializers(model(tiny).SerializeToString())
    assert len(locations(externalize_initializers(write(tmp_path, data)) or b"")) == 2
    for end in range(len(data)):
        externalize_initializers(write(tmp_path, data[:end]))
    for _ in range(3000):
        damaged = bytearray(data)
        damaged[int(RANDOM.integers(len(data)))] = int(RANDOM.integers(256))
        path = write(tmp_path, bytes(damaged))
        for location in locations_or_none(externalize_initializers(path)):
            assert (
                0 <= int(location["offset"]) <= int(location["offset"]) + int(location["length"]) <= len(data)
            )


def locations_or_none(short: bytes | None) -> list[dict[str, str]]:
    try:
        return list(locations(short or b"").values())
    except Exception:  # ONNX Runtime reports the damage
        return []
