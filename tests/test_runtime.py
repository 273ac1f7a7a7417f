from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import aerogel
from aerogel import runtime, weights_file
from aerogel.errors import RuntimeLoadError, UsageError

Models = Callable[..., Path]


@pytest.mark.parametrize("threads", [-1, 0, 1025, 2**40, "x", 1.5, True])
def test_only_numbers_of_threads_are_taken(token_model: Models, threads: object) -> None:
    with pytest.raises(
        UsageError, match=rf"threads {threads!r} is out of range; give an integer from 1 to 1024"
    ):
        aerogel.session(token_model("m.onnx"), threads=threads)  # type: ignore[arg-type]  # what is being refused


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_numbers_of_threads(token_model: Models, threads: int | None) -> None:
    assert aerogel.session(token_model("m.onnx"), threads=threads).get_inputs()


@pytest.mark.parametrize("plainly", [False, True])
def test_options_that_have_the_library_say_so(token_model: Models, plainly: bool) -> None:
    model, options = token_model("m.onnx", sparse=True), onnxruntime.SessionOptions()
    if plainly:
        options.register_custom_ops_library(runtime.library_path())
    else:
        aerogel.session(model, options=options)
    with pytest.raises(RuntimeLoadError, match="already registered on these options; pass fresh options, or"):
        aerogel.session(model, options=options)


def test_options_that_have_the_library_work_without_another(token_model: Models, tmp_path: Path) -> None:
    model, options = token_model("m.onnx", sparse=True), onnxruntime.SessionOptions()
    options.register_custom_ops_library(runtime.library_path())
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    opened = aerogel.session(model, options=options, library=False)
    ones = [[1, 1]]
    opened.run(None, {"input_ids": ones, "attention_mask": ones})
    # The kernel itself ran, not its body.
    assert '"op_name" : "CsrLinear_v1"' in Path(opened.end_profiling()).read_text()


def test_a_failure_is_told_once(
    token_model: Models, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEROGEL_ISA", "foo")
    with pytest.raises(RuntimeLoadError, match="unknown instruction set 'foo'"):
        aerogel.session(token_model("m.onnx", sparse=True), library=True)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="shows what is mapped: Linux only")
@pytest.mark.parametrize("mapped", [True, False])
def test_large_weights_stay_in_the_file(
    token_model: Models, tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_file, "LEAST", 64)
    model = tmp_path / f"only-{mapped}.onnx"
    model.write_bytes(weights_file.aligned(token_model("m.onnx", sparse=True).read_bytes()))
    session = aerogel.session(model, mapped=mapped)
    plain = aerogel.session(model, library=False)
    inputs = {
        value.name: np.ones((2, 7), np.int64 if "int64" in value.type else np.float32)
        for value in session.get_inputs()
    }
    np.testing.assert_allclose(session.run(None, inputs)[0], plain.run(None, inputs)[0], atol=1e-4)
    assert (str(model) in Path("/proc/self/maps").read_text()) is mapped


@pytest.mark.parametrize(("threads", "expected"), [(None, 3), (1, 1), (5, 5)])
def test_sessions_take_the_cores_that_the_process_has(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: int
) -> None:
    monkeypatch.setattr(runtime, "physical_cores", lambda: 3)
    options = runtime.session_options(threads)
    assert options.intra_op_num_threads == expected
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "20"
