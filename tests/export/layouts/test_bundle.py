from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import aerogel
from aerogel import cli
from aerogel.errors import ArtifactError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.kernels.cpu.library import find_library
from aerogel.verify import verify_artifact

Checkpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def bundle(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "tiny.zip"
    export(ExportConfig(tiny_checkpoint("bert", num_hidden_layers=1), out, target="bundle"))
    return out


def test_the_archive_has_all_that_runs_the_model(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    library = find_library()
    assert sorted(names) == sorted(
        f"tiny/{name}"
        for name in (
            "README.txt", "config.json", "example.c", "example.py", "model.manifest.json", "model.onnx",
            "tokenizer.json", "tokenizer_config.json", *([library.name] if library else []),
        )
    )  # fmt: skip
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny.zip"]
    model = tmp_path / "tiny" / "model.onnx"
    ids = np.array([aerogel.load(model, threads=1, verify=True).tokenize(["a good film"])[0].ids], np.int64)
    feed = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    logits = np.asarray(aerogel.session(model, threads=1).run(None, feed)[0])
    done = subprocess.run(
        [sys.executable, tmp_path / "tiny" / "example.py", "a good film", "bad"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={"PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name, *shape, first, second, _, _ = done.stdout.split()
    assert (name, "".join(shape)) == ("logits", "[2,2]")
    found = np.array([float(first), float(second)])
    np.testing.assert_allclose(found, logits[0], atol=2e-5)


def test_the_same_export_gives_the_same_bytes(
    bundle: Path, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.zip"
    export(ExportConfig(tiny_checkpoint("bert", num_hidden_layers=1), out, target="bundle"))
    assert out.read_bytes() == bundle.read_bytes()


def test_an_archive_of_somebody_else_is_not_replaced(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "m.zip"
    for content in (b"mine", b""):
        out.write_bytes(content)
        with pytest.raises(UsageError, match=r"m\.zip exists and is not from an earlier export"):
            export(ExportConfig(tiny_checkpoint(), out, target="bundle"))
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/model.manifest.json", "[" * 100_000)
    with pytest.raises(UsageError, match="not from an earlier export"):
        export(ExportConfig(tiny_checkpoint(), out, target="bundle"))
    with pytest.raises(UsageError, match=r"must name a file that ends in \.zip"):
        export(ExportConfig(tiny_checkpoint(), tmp_path / "m.onnx", target="bundle"))


def test_verify_checks_the_model_inside(bundle: Path) -> None:
    checks = list(verify_artifact(bundle, 1))
    assert [check.name for check in checks] == ["hashes", "structure", "outputs", "outputs"]
    assert {check.file for check in checks} == {f"{bundle}: tiny/model.onnx"}


def rewritten(bundle: Path, out: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            new.writestr(*change(entry.filename, old.read(entry)))
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: (name, data + b" " * (name == "tiny/config.json")), r"tiny/config\.json differs"),
        (
            lambda name, data: (name.replace("tiny/config", "../config"), data),
            r"has an entry '\.\./config\.json'",
        ),
        (lambda name, data: (name.replace("tiny/config", "/etc/config"), data), "has an entry"),
        (
            lambda name, data: (name.replace("tiny/config", "other/config"), data),
            "must have one folder, and has 2",
        ),
        (lambda name, data: (name.replace("model.onnx", "m.onnx"), data), r"has no tiny/model\.onnx"),
        (lambda name, data: (name.replace("example.c", "example.py"), data), "cannot read"),
    ],
    ids=["changed", "escape", "absolute", "two", "missing", "twice"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_and_hostile_archives_are_named_in_one_line(
    bundle: Path,
    tmp_path: Path,
    change: Callable[[str, bytes], tuple[str, bytes]],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = rewritten(bundle, tmp_path / "x.zip", change)
    with pytest.raises(ArtifactError, match=message):
        list(verify_artifact(out, 1))
    capsys.readouterr()
    assert cli.main(["verify", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip"}


def test_a_truncated_archive_is_named(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.zip"
    shutil.copy(bundle, out)
    out.write_bytes(out.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"cannot read .*x\.zip"):
        list(verify_artifact(out, 1))


def test_the_manifest_names_the_target(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        document = json.loads(archive.read("tiny/model.manifest.json"))
    assert (document["target"], document["file"]) == ("bundle", "model.onnx")
    assert "example.py" in document["companions"]
