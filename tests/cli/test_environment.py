from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aerogel.cli import _environment as module
from aerogel.cli._environment import environment
from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu import native
from aerogel.kernels.cpu.native import Isa
from aerogel.system import machine


@pytest.fixture
def fake_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "libfake.so"
    path.write_bytes(b"")
    monkeypatch.setenv("AEROGEL_LIBRARY", str(path))
    monkeypatch.setattr(
        native, "isas", lambda: [Isa("scalar", True, ""), Isa("neon", False, "not an Arm machine")]
    )
    monkeypatch.setattr(native, "selected", lambda: "scalar")
    monkeypatch.setattr(module, "_rejection", lambda _: None)
    return path


def test_report_is_json_with_versions_and_processor() -> None:
    found = json.loads(json.dumps(environment()))
    assert set(found) == {"aerogel", "python", "system", "packages", "cpu", "library", "variables"}
    import numpy

    assert found["packages"]["numpy"] == numpy.__version__
    assert found["cpu"]["cores"] == len(os.sched_getaffinity(0))
    assert found["cpu"]["model"]


def test_library_in_use(fake_library: Path) -> None:
    assert environment()["library"] == {
        "path": str(fake_library),
        "reason": None,
        "selected": "scalar",
        "instruction_sets": [
            {"name": "scalar", "available": True, "reason": ""},
            {"name": "neon", "available": False, "reason": "not an Arm machine"},
        ],
    }


def test_library_rejected_by_onnxruntime(fake_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("AEROGEL_LIBRARY", str(fake_library))
    monkeypatch.setattr(native, "isas", list)
    monkeypatch.setattr(native, "selected", lambda: "scalar")
    assert "ONNX Runtime rejects it" in environment()["library"]["reason"]


def test_library_that_does_not_load(fake_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[Isa]:
        raise RuntimeLoadError("it is of another machine")

    monkeypatch.setattr(native, "isas", refuse)
    library = environment()["library"]
    assert library["path"] == str(fake_library)
    assert library["reason"] == "it is of another machine"
    assert library["selected"] is None


def test_library_disabled_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    library = environment()["library"]
    assert library["path"] is None
    assert "AEROGEL_LIBRARY is empty" in library["reason"]


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (None, "no C++ compiler found; install GCC or Clang and reinstall aerogel"),
        ("/usr/bin/g++", "/usr/bin/g++ is available now, so reinstall aerogel"),
    ],
)
def test_library_that_was_not_built(
    monkeypatch: pytest.MonkeyPatch, compiler: str | None, reason: str
) -> None:
    monkeypatch.delenv("AEROGEL_LIBRARY", raising=False)
    monkeypatch.setattr(module, "find_library", lambda: None)
    monkeypatch.setattr(module.shutil, "which", lambda name: compiler if name == "g++" else None)
    assert reason in environment()["library"]["reason"]


def test_variables_have_values_and_meanings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_ISA", "scalar")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("AEROGEL_PYTHON_DEEPSPARSE", "elsewhere/python")
    variables = environment()["variables"]
    assert variables["AEROGEL_PYTHON_DEEPSPARSE"]["value"] == "elsewhere/python"
    assert variables["AEROGEL_ISA"]["value"] == "scalar"
    assert variables["OMP_NUM_THREADS"]["value"] is None
    assert all(variable["meaning"] for variable in variables.values())


@pytest.mark.parametrize(
    ("text", "model", "features"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu avx2 fma avx512f avx512_vnni amx_tile ht\n",
            "Some CPU @ 3 GHz",
            ["amx_tile", "avx2", "avx512_vnni", "avx512f", "fma"],
        ),
        (
            "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Some CPU\nflags\t\t: fma\n",
            "Some CPU (family 26, model 2)",
            ["fma"],
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd asimddp sve2 i8mm crc32\n",
            None,
            ["asimd", "asimddp", "i8mm", "sve2"],
        ),
        ("", None, []),
    ],
)
def test_processor_from_proc(
    monkeypatch: pytest.MonkeyPatch, text: str, model: str | None, features: list[str]
) -> None:
    monkeypatch.setattr(machine.Path, "read_text", lambda *_, **__: text)
    assert machine.cpu_features() == features
    if model:
        assert machine.cpu_model() == model
