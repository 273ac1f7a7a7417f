from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aerogel.errors import OutputError, UsageError
from aerogel.export import output_dir
from aerogel.export.layout import Placement
from aerogel.export.output_dir import check_out, companions, place
from aerogel.runtime.artifact import manifest_path
from aerogel.system.atomic_io import staging


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "ckpt"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "vocab.txt", "model.safetensors", "masks.safetensors"):
        (folder / name).write_text(name)
    return folder


def put(checkpoint: Path, out: Path, content: str = "model") -> None:
    with staging(out) as folder:
        artifact = folder / out.name
        artifact.write_text(content)
        copies = {path.name: path for path in companions(checkpoint)}
        place(Placement(artifact, {"aerogel": "0", "file": out.name}, copies, {}), out.parent, out)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


EXPORTED = {"m.onnx", "m.manifest.json", "config.json", "tokenizer.json", "vocab.txt"}


def test_companions_are_config_and_tokenizer_files(checkpoint: Path) -> None:
    assert {path.name for path in companions(checkpoint)} == {"config.json", "tokenizer.json", "vocab.txt"}


def test_model_manifest_and_companions_are_written(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "not" / "yet" / "m.onnx"
    check_out(out, ".onnx", checkpoint, force=False)
    assert not (tmp_path / "not").exists()
    put(checkpoint, out)
    assert names(out.parent) == EXPORTED
    assert names(tmp_path) == {"ckpt", "not"}
    assert json.loads(manifest_path(out).read_text())["file"] == "m.onnx"


def test_exports_of_one_checkpoint_can_share_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("m.onnx", "other.onnx", "m.onnx"):
        out = tmp_path / "out" / name
        check_out(out, ".onnx", checkpoint, force=False)
        before = (out.parent / "vocab.txt").stat().st_mtime_ns if out.parent.exists() else None
        put(checkpoint, out, content=name)
        assert out.read_text() == name
        if before:
            assert (out.parent / "vocab.txt").stat().st_mtime_ns == before
    assert names(tmp_path / "out") == EXPORTED | {"other.onnx", "other.manifest.json"}


def test_foreign_files_are_overwritten_only_with_force(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.onnx"
    out.parent.mkdir()
    out.write_text("mine")
    with pytest.raises(UsageError, match=r"m\.onnx exists and is not from an earlier export.*--force"):
        check_out(out, ".onnx", checkpoint, force=False)
    # The manifest of another file, or a damaged one, does not prove an export.
    for text in ('{"aerogel": "0", "file": "n.onnx"}', "[" * 200_000):
        manifest_path(out).write_text(text)
        with pytest.raises(UsageError, match="not from an earlier export"):
            check_out(out, ".onnx", checkpoint, force=False)
    out.unlink()
    manifest_path(out).unlink()
    (out.parent / "config.json").write_text("of another model")
    with pytest.raises(UsageError, match=r"config\.json exists and differs.*--force"):
        check_out(out, ".onnx", checkpoint, force=False)
    check_out(out, ".onnx", checkpoint, force=True)
    put(checkpoint, out)
    assert (out.parent / "config.json").read_text() == "config.json"


def test_foreign_manifest_is_overwritten_only_with_force(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.onnx"
    put(checkpoint, out)
    out.unlink()
    check_out(out, ".onnx", checkpoint, force=False)  # the export's own model was deleted
    manifest_path(out).write_text("mine")
    with pytest.raises(
        UsageError, match=r"m\.manifest\.json exists and is not from an earlier export.*--force"
    ):
        check_out(out, ".onnx", checkpoint, force=False)
    check_out(out, ".onnx", checkpoint, force=True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("out", "must name a file that ends in .onnx"),
        (".onnx", "must name a file"),
        ("model.txt", "ends in .onnx"),
        ("folder.onnx", r"folder\.onnx is a folder; name the file"),
        ("taken.onnx", r"taken\.manifest\.json is a folder"),
        ("out/model.onnx", r"out/vocab\.txt is a folder"),
        ("ckpt/model.onnx", "is inside the checkpoint directory"),
        ("ckpt/onnx/new/model.onnx", "is inside the checkpoint directory"),
        ("link/model.onnx", "is inside the checkpoint directory"),
        ("file/model.onnx", "cannot be written"),
    ],
)
def test_unusable_output_paths_are_refused(checkpoint: Path, tmp_path: Path, out: str, message: str) -> None:
    for folder in ("folder.onnx", "taken.manifest.json", "out/vocab.txt"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(checkpoint)
    with pytest.raises((UsageError, OutputError), match=message):
        check_out(tmp_path / out, ".onnx", checkpoint, force=True)


def test_failure_leaves_no_files(tmp_path: Path) -> None:
    def fail() -> None:
        with staging(tmp_path / "deep" / "m.onnx") as folder:
            (folder / "half").write_text("")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert names(tmp_path) == set()


def test_full_disk_is_reported(tmp_path: Path) -> None:
    def fill() -> None:
        with staging(tmp_path / "m.onnx"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"m\.onnx cannot be written \(No space left on device\)"):
        fill()
    assert names(tmp_path) == set()


def test_manifest_is_written_last(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `place` stops after any number of files, there is no manifest without all other files."""
    real = output_dir.atomic_file
    for last in range(6):
        out = tmp_path / str(last) / "m.onnx"
        written: list[str] = []

        @contextlib.contextmanager
        def stopping(path: Path, written: list[str] = written, last: int = last) -> Iterator[Path]:
            if len(written) == last:
                raise KeyboardInterrupt
            with real(path) as temporary:
                yield temporary
            written.append(path.name)

        monkeypatch.setattr(output_dir, "atomic_file", stopping)
        with contextlib.suppress(KeyboardInterrupt):
            put(checkpoint, out)
        assert len(written) == min(last, 5)
        assert not manifest_path(out).exists() or names(out.parent) == EXPORTED
