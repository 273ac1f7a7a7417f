from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

import aerogel
from aerogel import runtime
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
