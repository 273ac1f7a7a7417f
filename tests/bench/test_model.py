from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aerogel.bench.model import scan
from aerogel.errors import RuntimeLoadError


def test_domains_and_size(token_model: Callable[..., Path]) -> None:
    dense, sparse = scan(token_model("dense.onnx")), scan(token_model("sparse.onnx", sparse=True))
    assert dense.domains == {""}
    assert not dense.sparse
    assert sparse.domains == {"", "aerogel"}
    assert sparse.sparse
    assert (dense.functions, sparse.functions) == (frozenset(), {"CsrLinear_v1"})
    assert sparse.size == sparse.path.stat().st_size


def test_agrees_with_onnx_with_all_other_fields_set(token_model: Callable[..., Path]) -> None:
    path = token_model("model.onnx", sparse=True)
    model = onnx.load(path)
    model.producer_name, model.model_version, model.doc_string = "someone", -1, "x" * 5000
    model.metadata_props.add(key="k", value="v")
    model.opset_import.add(domain="com.example", version=2**40)
    onnx.save(model, path)
    assert scan(path).domains == {item.domain for item in model.opset_import}


def test_external_data_counts_in_the_size(token_model: Callable[..., Path]) -> None:
    path = token_model("model.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    data = path.with_name("model.onnx.data")
    assert data.stat().st_size > 1000
    assert scan(path).size == path.stat().st_size + data.stat().st_size


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeLoadError, match=r"nowhere\.onnx does not exist"):
        scan(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize(
    "content",
    [b"", b"not an onnx file at all", b"\x00" * 64, b"\xff" * 64, b"\x7fELF\x02\x01\x01", b"\x08\x09"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(RuntimeLoadError, match=r"model\.onnx is not an ONNX file"):
        scan(file)


def test_a_truncated_file_is_refused(token_model: Callable[..., Path]) -> None:
    path = token_model("model.onnx")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RuntimeLoadError, match="truncated"):
        scan(path)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_raise_only_runtime_load_errors(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with contextlib.suppress(RuntimeLoadError):
        scan(file)
