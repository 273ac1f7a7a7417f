from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.bench import third_party
from aerogel.bench.backend import Runner
from aerogel.bench.backends import BACKENDS, third_party_backends
from aerogel.bench.model import scan
from aerogel.bench.precision import Precision
from aerogel.bench.process import Worker
from aerogel.bench.third_party import ThirdPartyBackend
from aerogel.errors import MissingExtraError, RuntimeLoadError

Models = Callable[..., Path]


class Somebody(ThirdPartyBackend):
    package = "numpy"
    install = "'numpy<3'"
    computes = Precision(False, "int8")

    def open(self, path: Path, threads: int, setting: str, batch: int, seq: int) -> Runner:
        raise NotImplementedError


class Nobody(Somebody):
    package = "no_such_runtime"
    install = "no-such-runtime==1.0"
    needs = "python3.9"


@pytest.fixture(autouse=True)
def forget() -> None:
    third_party._installed.cache_clear()


def test_measures_dense_exports_where_it_is_installed(token_model: Models) -> None:
    assert Somebody().python() is None
    assert Somebody().refuse(scan(token_model("dense.onnx"))) is None
    reason = Somebody().refuse(scan(token_model("sparse.onnx", sparse=True)))
    assert reason is not None
    assert "--format dense" in reason
    assert Somebody().runtime().__name__ == "numpy"


def test_says_how_to_install_it(token_model: Models) -> None:
    wanted = (
        "no_such_runtime is not installed; run: python3.9 -m venv DIR && DIR/bin/pip install no-such-runtime==1.0, "
        "and set AEROGEL_PYTHON_NO_SUCH_RUNTIME=DIR/bin/python"
    )
    assert Nobody().refuse(scan(token_model("dense.onnx"))) == wanted
    with pytest.raises(MissingExtraError) as caught:
        Nobody().runtime()
    assert str(caught.value) == wanted


def test_looks_in_the_interpreter_that_the_variable_names(
    token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scan(token_model("dense.onnx"))
    monkeypatch.setenv("AEROGEL_PYTHON_NUMPY", sys.executable)
    assert Somebody().python() == Path(sys.executable)
    assert Somebody().refuse(model) is None
    monkeypatch.setenv("AEROGEL_PYTHON_NO_SUCH_RUNTIME", sys.executable)
    assert "is not installed" in str(Nobody().refuse(model))
    monkeypatch.setenv("AEROGEL_PYTHON_NUMPY", str(tmp_path))
    assert f"AEROGEL_PYTHON_NUMPY={tmp_path} is not a file" in str(Somebody().refuse(model))
    other = tmp_path / "python"
    other.write_text("no program")
    monkeypatch.setenv("AEROGEL_PYTHON_NUMPY", str(other))
    assert "is not installed" in str(Somebody().refuse(model))


def test_another_interpreter_gets_this_package_and_nothing_beside_it(
    token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = token_model("model.onnx")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "elsewhere.py").write_text("from aerogel.bench.backends.onnxruntime import CANDIDATE\n")
    point = {"threads": 1, "setting": "default", "batch": 1, "seq": 4, "vocab": 50, "seed": 0}
    with Worker("elsewhere", model, **point) as worker:
        assert worker.outputs()[0].shape == (1, 16)
    with pytest.raises(RuntimeLoadError, match="No module named 'elsewhere'"):
        Worker("elsewhere", model, python=Path(sys.executable), **point)
    stock = "aerogel.bench.backends.onnxruntime"
    with Worker(stock, model, python=Path(sys.executable), **point) as worker:
        assert worker.outputs()[0].shape == (1, 16)


def test_all_that_are_known() -> None:
    assert {
        "deepsparse",
        "deepsparse-int8",
        "onnxruntime-int8",
        "openvino",
        "openvino-bf16",
        "openvino-int8",
    } <= set(third_party_backends())
    kinds = {name: str(BACKENDS.get(name).computes) for name in third_party_backends()}  # type: ignore[attr-defined]  # all of them are a Rival
    assert kinds["deepsparse"] == "sparse fp32"
    assert kinds["openvino-int8"] == "dense int8"
