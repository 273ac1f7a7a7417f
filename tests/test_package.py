from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import aerogel
from aerogel import errors
from aerogel.errors import AerogelError, MissingExtraError, OutputError, RuntimeLoadError, require
from aerogel.kernels.cpu.library import LIBRARY_VARIABLE
from aerogel.system.atomic_io import atomic_directory, atomic_file, check_output


def test_import_loads_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "transformers", "onnx", "onnxruntime", "scipy")
    code = f"import aerogel, aerogel.cli, sys; dir(aerogel); print([name for name in {heavy} if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_public_names() -> None:
    functions = {
        "benchmark", "export_model", "library_path", "load", "load_checkpoint", "pretrain_model", "prune_model",
        "session", "session_options", "train_model",
    }  # fmt: skip
    classes = {"Checkpoint", "ExportConfig", "Model", "PretrainConfig", "PruneConfig", "TrainConfig"}
    assert set(aerogel.__all__) == functions | classes | (set(errors.__all__) - {"require"}) | {"__version__"}
    assert aerogel.__all__ == sorted(aerogel.__all__)
    assert set(aerogel.__all__) <= set(dir(aerogel))
    assert all(callable(getattr(aerogel, name)) for name in functions | classes)
    assert all(f"{name}(" in (aerogel.__doc__ or "") for name in functions)
    assert not hasattr(aerogel, "nothing")


def test_public_objects_are_those_of_their_modules() -> None:
    from aerogel import checkpoint, runtime
    from aerogel.bench import harness
    from aerogel.export import run as exporting
    from aerogel.train import run as training

    assert aerogel.train_model is training.train
    assert aerogel.export_model is exporting.export
    assert aerogel.load_checkpoint is checkpoint.load
    assert aerogel.benchmark is harness.bench
    assert aerogel.session is runtime.session
    # The packages of these names stay importable.
    assert inspect.ismodule(importlib.import_module("aerogel.train"))
    assert inspect.ismodule(aerogel.export)


def test_type_checkers_see_the_signatures(tmp_path: Path) -> None:
    """mypy reads the types of the public functions; other packages are skipped, which makes it quick."""
    pytest.importorskip("mypy")
    user = tmp_path / "user.py"
    names = ("session", "export_model", "train_model")
    user.write_text("import aerogel\n" + "".join(f"reveal_type(aerogel.{name})\n" for name in names))
    skipped = (
        "torch",
        "transformers",
        "numpy",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "datasets",
        "rich",
        "tokenizers",
    )
    config = tmp_path / "mypy.ini"
    config.write_text(
        "[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n"
        f"[mypy-{','.join(f'{name}.*' for name in skipped)}]\nfollow_imports = skip\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path / "cache"), str(user)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    session, export, train = (line.partition("Revealed type is ")[2] for line in done.stdout.splitlines()[:3])
    assert session.startswith('"def (path: ')
    assert "threads: " in session
    assert export.startswith('"def (config: aerogel.export.config.ExportConfig')
    assert train.startswith(
        '"def (config: aerogel.train.config.TrainConfig) -> aerogel.checkpoint.record.Checkpoint'
    )


def test_errors_are_documented() -> None:
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
