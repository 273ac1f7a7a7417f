from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel import cli
from aerogel.errors import ArtifactError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.kernels.cpu.library import find_library
from aerogel.verify import verify_artifact

Checkpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def served(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with int8 weights and one with fp32 weights, in one folder."""
    folder = tmp_path_factory.mktemp("served")
    checkpoint = tiny_checkpoint("bert", num_hidden_layers=1)
    for weights in ("fp32", "int8"):
        export(ExportConfig(checkpoint, folder / f"{weights}.onnx", weights=weights))
    return folder


@pytest.fixture
def copied(served: Path, tmp_path: Path) -> Path:
    """A copy to damage; the model's file."""
    shutil.copytree(served, tmp_path / "copy")
    return tmp_path / "copy" / "fp32.onnx"


def edit(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = model.with_suffix(".manifest.json")
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_every_check_of_every_export_in_a_folder_passes(served: Path) -> None:
    found = [(Path(check.file).name, check.name) for check in verify_artifact(served, 1)]
    names = ["hashes", "structure", "outputs", "outputs"]
    assert found == [(model, name) for model in ("fp32.onnx", "int8.onnx") for name in names]
    details = [check.detail for check in verify_artifact(served / "fp32.onnx", 1)]
    assert details[1] == "3 inputs and 1 outputs are those of the manifest"
    assert details[2].startswith("2 samples agree on stock ONNX Runtime, largest difference ")
    expected = "2 samples agree with the native library" if find_library() else "not compared"
    assert details[3].startswith(expected)


def test_samples_are_small_and_of_the_model(served: Path) -> None:
    document = json.loads((served / "fp32.manifest.json").read_text())
    samples = document["samples"]
    assert samples["tolerance"] == pytest.approx(2e-4)
    assert len(json.dumps(samples)) < 8000
    (first, second) = samples["batches"]
    assert len(first["inputs"]["input_ids"][0]) < len(second["inputs"]["input_ids"][0])
    assert first["outputs"]["logits"]["shape"] == [1, 2]


def sample(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["samples"]["batches"][0]["outputs"]["logits"]
    return found


def value(document: dict[str, Any]) -> list[float]:
    found: list[float] = sample(document)["values"]
    return found


def ids(document: dict[str, Any]) -> list[list[int]]:
    found: list[list[int]] = document["samples"]["batches"][0]["inputs"]["input_ids"]
    return found


def flip(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "model": (flip, r"fp32\.onnx differs from its SHA-256"),
    "truncated": (lambda m: m.write_bytes(m.read_bytes()[:-1]), r"fp32\.onnx has \d+ bytes"),
    "tokenizer": (lambda m: (m.parent / "tokenizer.json").write_text("{}"), r"tokenizer\.json differs"),
    "config": (lambda m: (m.parent / "config.json").unlink(), r"config\.json does not exist"),
    "manifest": (lambda m: m.with_suffix(".manifest.json").unlink(), r"manifest\.json does not exist, so"),
    "json": (lambda m: m.with_suffix(".manifest.json").write_text("{"), "is not JSON"),
    "schema": (lambda m: edit(m, lambda d: d.update(schema=99)), "schema is 99"),
    "ports": (
        lambda m: edit(m, lambda d: d["inputs"].pop()),
        r"has the inputs input_ids \(int64, 2 dimensions\), .*token_type_ids.*and its manifest input_ids",
    ),
    "no samples": (lambda m: edit(m, lambda d: d.pop("samples")), "samples is null, not inputs with"),
    "value": (
        lambda m: edit(m, lambda d: value(d).__setitem__(0, value(d)[0] + 0.01)),
        r"output logits of sample 0 differs from its manifest's by 0\.01 on stock",
    ),
    "count": (lambda m: edit(m, lambda d: value(d).append(0.0)), "output logits has 3 values"),
    "shape": (lambda m: edit(m, lambda d: sample(d).update(shape=[1, 3])), r"is of shape \[1, 2\], and \[1, 3\]"),
    "ragged": (lambda m: edit(m, lambda d: ids(d).append([1])), "input input_ids is not a matrix"),
    "ids": (lambda m: edit(m, lambda d: ids(d)[0].__setitem__(0, 10**6)), "cannot run on its manifest's samples"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_in_one_line_with_status_2(
    copied: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = DAMAGE[damage]
    change(copied)
    with pytest.raises(ArtifactError, match=message):
        list(verify_artifact(copied, 1))
    capsys.readouterr()
    assert cli.main(["verify", str(copied), "--threads", "1"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("aerogel: error: ")
    assert printed.count("\n") == 1


def test_a_manifest_without_its_model_is_an_error(copied: Path) -> None:
    copied.unlink()
    with pytest.raises(ArtifactError, match=r"describes fp32\.onnx, which is missing"):
        list(verify_artifact(copied.parent, 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("config.json", "is not an artifact"), (".", "is not an")],
)
def test_what_is_not_an_artifact_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=message):
        list(verify_artifact(tmp_path / name, 1))


def test_the_command_line_prints_and_writes_the_checks(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, report = str(served / "fp32.onnx"), tmp_path / "r.json"
    assert cli.main(["verify", model, "--threads", "1", "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    document = json.loads(report.read_text())
    assert [line.removeprefix(f"{model}: ") for line in lines] == [
        f"{check['name']}: {check['detail']}" for check in document["checks"]
    ]
    assert cli.main(["verify", model, "--threads", "1", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == document
    assert cli.main(["verify", model, "--json", str(served / "config.json")]) == 2
    assert "lies in the artifact's folder" in capsys.readouterr().err
