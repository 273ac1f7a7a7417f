from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aerogel
from aerogel import errors
from aerogel.errors import AerogelError, MissingExtraError, OutputError, RuntimeLoadError, require
from aerogel.kernels.cpu.library import LIBRARY_VARIABLE
from aerogel.system.atomic_io import atomic_directory, atomic_file, check_output


def test_import_does_not_load_heavy_packages() -> None:
    heavy = ("torch", "transformers", "onnx", "onnxruntime", "scipy")
    code = f"import aerogel, aerogel.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_public_names() -> None:
    assert aerogel.__all__ == ["AerogelError", "Model", "__version__", "library_path", "load", "session"]
    assert all(hasattr(aerogel, name) for name in aerogel.__all__)
    assert not hasattr(aerogel, "nothing")
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, AerogelError)
    }
    assert tree == {name for name in errors.__all__ if name != "require"}
    assert all(name in (errors.__doc__ or "") for name in tree)


def test_require_names_the_install_command_of_a_missing_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'aerogel\[bench\]'"):
        require("no_such_package", "bench")


def test_the_error_for_a_missing_library_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, "")
    with pytest.raises(RuntimeLoadError, match=r"C\+\+17 compiler"):
        aerogel.library_path()
    monkeypatch.setenv(LIBRARY_VARIABLE, "/no/such/file.so")
    with pytest.raises(RuntimeLoadError, match=r"/no/such/file\.so is not a file"):
        aerogel.library_path()


def test_session_refuses_files_that_are_not_models(tmp_path: Path) -> None:
    with pytest.raises(RuntimeLoadError, match="does not exist"):
        aerogel.session(tmp_path / "absent.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"not a model")
    with pytest.raises(RuntimeLoadError, match="cannot be loaded"):
        aerogel.session(tmp_path / "noise.onnx")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail() -> None:
        with atomic_file(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"
    with atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_failed_directory_write_keeps_the_old_directory(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_directory(target) as temporary:
        (temporary / "a").write_text("old")

    def fail() -> None:
        with atomic_directory(target) as temporary:
            (temporary / "a").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert (target / "a").read_text() == "old"
    with atomic_directory(target) as temporary:
        (temporary / "b").write_text("new")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("folder", False, r"folder is a folder; name the file"),
        ("file", True, r"file is a file; choose another name"),
        ("file/below", False, r"below cannot be written"),
        ("file/below", True, r"below cannot be written"),
        (".", True, r"the current folder"),
        ("..", True, r"the current folder"),
        (".", False, r"is a folder"),
        ("loop", True, r"loop is a file"),
    ],
)
def test_unwritable_paths_are_refused_by_the_check_and_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: bool, message: str
) -> None:
    here = tmp_path / "here"
    (here / "folder").mkdir(parents=True)
    (here / "file").touch()
    (here / "loop").symlink_to("loop")
    monkeypatch.chdir(here)
    with pytest.raises(OutputError, match=message):
        check_output(Path(name), folder=folder)
    with pytest.raises(OutputError, match=message), (atomic_directory if folder else atomic_file)(Path(name)):
        pytest.fail("it began")
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder", "loop"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("folder", [False, True])
def test_the_next_writer_removes_the_files_of_a_killed_one(tmp_path: Path, folder: bool) -> None:
    code = (
        "import os, sys; from pathlib import Path; from aerogel.system.atomic_io import *;"
        f"writer = {'atomic_directory' if folder else 'atomic_file'}(Path(sys.argv[1])); writer.__enter__();"
        "os._exit(9)"
    )
    for act in (check_output, atomic_directory if folder else atomic_file):
        killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
        assert killed.returncode == 9
        assert len(list(tmp_path.iterdir())) == 1
        if act is check_output:
            check_output(tmp_path / "a", folder=folder)
            assert list(tmp_path.iterdir()) == []
        else:
            with act(tmp_path / "a"):
                pass
            assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_check_output_creates_nothing(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deep.json")
    check_output(tmp_path / "new" / "deep", folder=True)
    assert list(tmp_path.iterdir()) == []
