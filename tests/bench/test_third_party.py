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


class Installed(ThirdPartyBackend):
    package = "numpy"
    install = "'numpy<3'"
    dense_precision = Precision(False, "int8")

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:
        raise NotImplementedError


class Missing(Installed):
    package = "no_such_runtime"
    install = "no-such-runtime==1.0"
    python_command = "python3.9"


@pytest.fixture(autouse=True)
def forget() -> None:
    third_party._installed.cache_clear()


def test_measures_dense_exports_if_installed(token_model: Models) -> None:
    assert Installed().python() is None
    assert Installed().refuse(scan(token_model("dense.onnx"))) is None
    reason = Installed().refuse(scan(token_model("sparse.onnx", sparse=True)))
    assert reason is not None
    assert "--format dense" in reason
    assert Installed().import_package().__name__ == "numpy"


def test_reports_how_to_install_it(token_model: Models) -> None:
    hint = (
        "no_such_runtime is not installed; run: python3.9 -m venv DIR && DIR/bin/pip install no-such-runtime==1.0, "
        "and set AEROGEL_PYTHON_NO_SUCH_RUNTIME=DIR/bin/python"
    )
    assert Missing().refuse(scan(token_model("dense.onnx"))) == hint
    with pytest.raises(MissingExtraError) as caught:
        Missing().import_package()
    assert str(caught.value) == hint


def test_uses_the_interpreter_that_the_variable_names(
    token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scan(token_model("dense.onnx"))
    monkeypatch.setenv("AEROGEL_PYTHON_NUMPY", sys.executable)
    assert Installed().python() == Path(sys.executable)
    assert Installed().refuse(model) is None
    monkeypatch.setenv("AEROGEL_PYTHON_NO_SUCH_RUNTIME", sys.executable)
    assert "is not installed" in str(Missing().refuse(model))
    monkeypatch.setenv("AEROGEL_PYTHON_NUMPY", str(tmp_path))
    assert f"AEROGEL_PYTHON_NUMPY={tmp_path} is not a file" in str(Installed().refuse(model))
    other = tmp_path / "python"
    other.write_text("no program")
    monkeypatch.setenv("AEROGEL_PYTHON_NUMPY", str(other))
    assert "is not installed" in str(Installed().refuse(model))


def test_another_interpreter_gets_only_the_package_aerogel(
    token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = token_model("model.onnx")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "elsewhere.py").write_text("from aerogel.bench.backends.onnxruntime import BACKEND\n")
    arguments = {"threads": 1, "variant": "default", "batch": 1, "seq": 4, "vocab": 50, "seed": 0}
    with Worker("elsewhere", model, **arguments) as worker:
        assert worker.outputs()[0].shape == (1, 16)
    with pytest.raises(RuntimeLoadError, match="No module named 'elsewhere'"):
        Worker("elsewhere", model, python=Path(sys.executable), **arguments)
    stock = "aerogel.bench.backends.onnxruntime"
    with Worker(stock, model, python=Path(sys.executable), **arguments) as worker:
        assert worker.outputs()[0].shape == (1, 16)


def test_all_third_party_backends_are_registered() -> None:
    assert {
        "deepsparse",
        "deepsparse-int8",
        "onnxruntime-int8",
        "openvino",
        "openvino-bf16",
        "openvino-int8",
    } <= set(third_party_backends())
    precisions = {name: str(BACKENDS.get(name).dense_precision) for name in third_party_backends()}  # type: ignore[attr-defined]  # all are a ThirdPartyBackend
    assert precisions["deepsparse"] == "sparse fp32"
    assert precisions["openvino-int8"] == "dense int8"
