from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import aerogel
from aerogel import runtime
from aerogel.errors import RuntimeLoadError, UsageError
from aerogel.kernels.cpu.library import library_path
from aerogel.runtime import mapping, sessions

Models = Callable[..., Path]


@pytest.mark.parametrize("threads", [-1, 0, 1025, 2**40, "x", 1.5, True])
def test_invalid_thread_counts_are_refused(token_model: Models, threads: object) -> None:
    with pytest.raises(
        UsageError, match=rf"threads {threads!r} is out of range; give an integer from 1 to 1024"
    ):
        aerogel.session(token_model("m.onnx"), threads=threads)  # type: ignore[arg-type]  # the invalid value


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_valid_thread_counts(token_model: Models, threads: int | None) -> None:
    assert aerogel.session(token_model("m.onnx"), threads=threads).get_inputs()


@pytest.mark.parametrize("directly", [False, True])
def test_registering_the_library_twice_is_an_error(token_model: Models, directly: bool) -> None:
    model, options = token_model("m.onnx", sparse=True), onnxruntime.SessionOptions()
    if directly:
        options.register_custom_ops_library(library_path())
    else:
        aerogel.session(model, options=options)
    with pytest.raises(RuntimeLoadError, match="already registered on these options; pass fresh options, or"):
        aerogel.session(model, options=options)


def test_options_can_register_the_library(token_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs that create the session themselves, such as optimum."""
    model = token_model("sparse.onnx", sparse=True)
    options = aerogel.session_options(1, library=True)
    assert onnxruntime.InferenceSession(str(model), options).get_outputs()[0].name == "logits"
    with pytest.raises(RuntimeLoadError, match="already registered"):
        aerogel.session(model, options=options)
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    with pytest.raises(RuntimeLoadError, match="the native library is not built"):
        aerogel.session_options(library=True)


def test_options_with_the_library_work_with_library_false(token_model: Models, tmp_path: Path) -> None:
    model, options = token_model("m.onnx", sparse=True), onnxruntime.SessionOptions()
    options.register_custom_ops_library(library_path())
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    opened = aerogel.session(model, options=options, library=False)
    ones = [[1, 1]]
    opened.run(None, {"input_ids": ones, "attention_mask": ones})
    # The kernel ran, not the body of the function.
    assert '"op_name" : "CsrLinear_v1"' in Path(opened.end_profiling()).read_text()


def test_a_failure_is_reported_once(
    token_model: Models, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEROGEL_ISA", "foo")
    with pytest.raises(RuntimeLoadError, match="unknown instruction set 'foo'"):
        aerogel.session(token_model("m.onnx", sparse=True), library=True)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc/self/maps")
@pytest.mark.parametrize("mapped", [True, False])
def test_mapped_weights_stay_in_the_file(
    token_model: Models, tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "MIN_BYTES", 64)
    model = tmp_path / f"only-{mapped}.onnx"
    model.write_bytes(mapping.align_initializers(token_model("m.onnx", sparse=True).read_bytes()))
    session = aerogel.session(model, mapped=mapped)
    plain = aerogel.session(model, library=False)
    inputs = {
        value.name: np.ones((2, 7), np.int64 if "int64" in value.type else np.float32)
        for value in session.get_inputs()
    }
    np.testing.assert_allclose(session.run(None, inputs)[0], plain.run(None, inputs)[0], atol=1e-4)
    assert (str(model) in Path("/proc/self/maps").read_text()) is mapped


@pytest.mark.parametrize(("threads", "expected"), [(None, 3), (1, 1), (5, 5)])
def test_sessions_use_the_cores_of_the_process_by_default(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: int
) -> None:
    monkeypatch.setattr(sessions, "physical_cores", lambda: 3)
    options = runtime.session_options(threads)
    assert options.intra_op_num_threads == expected
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "20"


def write(model: Path, source: Path, scale: float = 1.0) -> Path:
    """Write an aligned copy of a model with its embedding table multiplied by `scale`."""
    import onnx

    proto = onnx.load(source)
    table = next(tensor for tensor in proto.graph.initializer if tensor.name == "table")
    table.raw_data = (np.frombuffer(table.raw_data, np.float32) * np.float32(scale)).tobytes()
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(mapping.align_initializers(proto.SerializeToString()))
    return model


def logits(session: onnxruntime.InferenceSession) -> np.ndarray:
    return np.asarray(session.run(None, {"input_ids": [[1, 2, 3]], "attention_mask": [[1, 1, 1]]})[0])


@pytest.fixture
def source(token_model: Models, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mapping, "MIN_BYTES", 64)
    return token_model("source.onnx", sparse=True)


@pytest.mark.parametrize("mapped", [True, False, None])
@pytest.mark.parametrize("link", ["snap/model.onnx", "current/model.onnx", "plain"])
def test_a_symbolic_link_opens_its_target(
    source: Path, tmp_path: Path, link: str, mapped: bool | None
) -> None:
    blob = write(tmp_path / "blobs/abc", source)
    path = tmp_path / link
    if link.startswith("current"):
        (tmp_path / "v3").mkdir()
        (tmp_path / "v3/model.onnx").symlink_to("../blobs/abc")
        path.parent.symlink_to("v3")
    else:
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(blob)
    np.testing.assert_array_equal(logits(aerogel.session(path, mapped=mapped)), logits(aerogel.session(blob)))


@pytest.mark.parametrize("mapped", [True, False])
def test_a_symbolic_link_never_mixes_two_models(source: Path, tmp_path: Path, mapped: bool) -> None:
    blob = write(tmp_path / "blobs/abc", source)
    other = write(tmp_path / "blobs/model.onnx", source, scale=3.0)
    link = tmp_path / "snap/model.onnx"
    link.parent.mkdir()
    link.symlink_to("../blobs/abc")
    found = logits(aerogel.session(link, mapped=mapped))
    np.testing.assert_array_equal(found, logits(aerogel.session(blob)))
    assert np.abs(found - logits(aerogel.session(other))).max() > 0.01


@pytest.mark.parametrize("mapped", [True, False])
def test_external_data_is_found_next_to_the_symbolic_link(source: Path, tmp_path: Path, mapped: bool) -> None:
    import onnx

    folder = tmp_path / "snap"
    folder.mkdir()
    for name in ("model.onnx", "model.onnx_data"):
        (folder / name).symlink_to(f"../blobs/{name[::-1]}")
    (tmp_path / "blobs").mkdir()
    external = tmp_path / "external"
    external.mkdir()
    onnx.save(
        onnx.load(source),
        external / "model.onnx",
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=1000,
    )
    for file in external.iterdir():
        file.rename(tmp_path / "blobs" / file.name[::-1])
    opened = aerogel.session(folder / "model.onnx", mapped=mapped)
    np.testing.assert_array_equal(logits(opened), logits(aerogel.session(source)))


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("how", ["rename", "in place"])
def test_a_file_replaced_while_it_is_opened_is_opened_again(
    source: Path, tmp_path: Path, how: str, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(tmp_path / "model.onnx", source)
    new = write(tmp_path / "new.onnx", source, scale=3.0)
    expected = logits(aerogel.session(new))
    plain = onnxruntime.InferenceSession
    opened = []

    def replaced(*given: object, **named: object) -> onnxruntime.InferenceSession:
        opened.append(given[0])
        if len(opened) == 1 and how == "rename":
            new.replace(model)
        elif len(opened) == 1:
            model.write_bytes(new.read_bytes())
        return plain(*given, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", replaced)
    np.testing.assert_array_equal(logits(aerogel.session(model, mapped=mapped)), expected)
    assert len(opened) == 2


def test_a_file_that_keeps_changing_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(tmp_path / "model.onnx", source)
    plain = onnxruntime.InferenceSession

    def replaced(*given: object, **named: object) -> onnxruntime.InferenceSession:
        write(tmp_path / "new.onnx", source).replace(model)
        return plain(*given, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", replaced)
    with pytest.raises(RuntimeLoadError, match=r"model\.onnx changed while it was opened, 3 times in a row"):
        aerogel.session(model)


def test_a_file_deleted_while_it_is_opened_is_reported_missing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(tmp_path / "model.onnx", source)

    def vanished(*_: object, **__: object) -> None:
        model.unlink()
        raise RuntimeError("no such file")

    monkeypatch.setattr(onnxruntime, "InferenceSession", vanished)
    with pytest.raises(RuntimeLoadError, match=r"model\.onnx does not exist"):
        aerogel.session(model)


@pytest.mark.parametrize("mapped", [None, False, True])
@pytest.mark.parametrize("library", [True, False])
def test_an_optimized_model_can_be_opened(
    source: Path, tmp_path: Path, library: bool, mapped: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAPPED_FROM", 1)
    model = write(tmp_path / "in/model.onnx", source)
    saved = tmp_path / "out/optimized.onnx"
    saved.parent.mkdir()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(saved)
    expected = logits(aerogel.session(model, options=options, library=library, mapped=mapped))
    model.unlink()
    np.testing.assert_array_equal(logits(aerogel.session(saved, library=library)), expected)


@pytest.mark.parametrize("how", ["truncate", "zeros", "shorter"])
def test_a_small_file_written_in_place_does_not_change_what_runs(
    source: Path, tmp_path: Path, how: str
) -> None:
    # In a separate process, which a truncated mapping would end.
    model = write(tmp_path / "model.onnx", source)
    size = model.stat().st_size
    change = {
        "truncate": "os.truncate(path, 0)",
        "zeros": f"open(path, 'r+b').write(bytes({size}))",
        "shorter": f"open(path, 'wb').write(bytes({size // 2}))",
    }[how]
    code = (
        "import os, sys, numpy as np, aerogel; from aerogel.runtime import mapping; mapping.MIN_BYTES = 64\n"
        "path = sys.argv[1]; opened = aerogel.session(path)\n"
        "feed = {'input_ids': [[1, 2, 3]], 'attention_mask': [[1, 1, 1]]}\n"
        f"before = opened.run(None, feed)[0].copy(); {change}\n"
        "np.testing.assert_array_equal(opened.run(None, feed)[0], before)"
    )
    done = subprocess.run([sys.executable, "-c", code, model], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc/self/maps")
@pytest.mark.parametrize("more", [0, 1])
def test_files_are_mapped_from_a_minimum_size(
    source: Path, tmp_path: Path, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(tmp_path / "model.onnx", source)
    monkeypatch.setattr(sessions, "MAPPED_FROM", model.stat().st_size + more)
    opened = aerogel.session(model)
    assert (str(model) in Path("/proc/self/maps").read_text()) is not bool(more)
    assert opened.get_inputs()
