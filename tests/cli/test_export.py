from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from aerogel import checkpoint, cli
from aerogel.errors import UsageError
from aerogel.export import run
from aerogel.export.report import table, verdict


def test_export_from_the_command_line(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out" / "model.onnx"
    checkpoint = tiny_checkpoint("bert", num_hidden_layers=1)
    done = subprocess.run(
        [
            sys.executable, "-m", "aerogel", "export", str(checkpoint), "--to", "onnx",
            "--format", "csr", "--out", str(out), "--json", str(tmp_path / "report.json"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "attention.self.query" in done.stdout
    assert "stock ONNX Runtime: agrees with PyTorch on" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(
        out.with_suffix(".manifest.json").read_text()
    )


def test_invalid_input_gives_one_line_and_status_2(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tiny_checkpoint("bert", num_hidden_layers=1))
    capsys.readouterr()  # transformers draws a bar where the checkpoint is written
    for words, message in [
        ([str(tmp_path / "nowhere"), "--out", "m.onnx"], "nowhere does not exist; give a directory"),
        (
            [path, "--out", str(tmp_path / "m.onnx"), "--format", "csc"],
            "unknown format 'csc'; known: bitmask, bsr, csr",
        ),
        ([path, "--out", str(tmp_path / "m.onnx"), "--to", "onxx"], "did you mean onnx?"),
    ]:
        assert cli.main(["export", *words]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("aerogel: error: ")
        assert message in printed
        assert printed.count("\n") == 1


def test_unwritable_report_is_rejected_before_exporting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "export", lambda *_: pytest.fail("exported"))
    assert cli.main(["export", "ckpt", "--out", str(tmp_path / "m.onnx"), "--json", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert f"{tmp_path} is a folder" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ("org/name", None, False)),
        (["--revision", "v1"], ("org/name", "v1", False)),
        (["--token-embeddings"], ("org/name", None, True)),
    ],
)
def test_hub_id_revision_and_token_embeddings_reach_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: tuple[str, str | None, bool]
) -> None:
    found: list[tuple[str, str | None, bool]] = []

    def export(config: run.ExportConfig, _: object) -> None:
        found.append((str(config.source), config.revision, config.token_embeddings))
        raise UsageError("stop here")

    monkeypatch.setattr(run, "export", export)
    assert cli.main(["export", "org/name", "--out", str(tmp_path / "m.onnx"), *flags]) == 2
    assert found == [expected]


@pytest.mark.parametrize("flags", [[], ["--no-fuse"]])
def test_no_fuse_flag_disables_fusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    asked: list[bool] = []

    def export(config: run.ExportConfig, _: object) -> None:
        asked.append(config.fuse)
        raise UsageError("stop here")

    monkeypatch.setattr(run, "export", export)
    assert cli.main(["export", "ckpt", "--out", str(tmp_path / "m.onnx"), *flags]) == 2
    assert asked == [not flags]


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("m.onnx", "would overwrite the model;"),
        ("m.manifest.json", "would overwrite the model's manifest;"),
        ("config.json", "would overwrite the model's config.json;"),
        ("texts.txt", "would overwrite the --verify-text file;"),
        ("ckpt/config.json", "lies in the checkpoint itself"),
        ("data/dev.tsv", "lies in --task-data"),
    ],
)
def test_report_does_not_overwrite_inputs_or_outputs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    report: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "export", lambda *_: pytest.fail("exported"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "config.json").write_text("{}")
    argv = [
        "export",
        "ckpt",
        "--out",
        "m.onnx",
        "--verify-text",
        "texts.txt",
        "--task-data",
        "data",
        "--json",
        report,
    ]
    assert cli.main(argv) == 2
    printed = capsys.readouterr().err
    assert f"--json {report} " in printed
    assert words in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--layout", "hub", "--out", "out"], ["--to", "bundle", "--out", "out/r.json"]]
)
def test_report_does_not_go_into_a_folder_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "export", lambda *_: pytest.fail("exported"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "ckpt", *words, "--json", "out/r.json"]) == 2
    assert "--json out/r.json " in capsys.readouterr().err


def test_output_without_a_name_is_rejected_with_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tiny_checkpoint: Callable[..., Path],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(tiny_checkpoint()), "--out", ".", "--json", "r.json"]) == 2
    assert "must name a file that ends in .onnx" in capsys.readouterr().err


def test_unknown_instruction_set_is_rejected_before_exporting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tiny_checkpoint: Callable[..., Path],
) -> None:  # fmt: skip
    monkeypatch.setattr("aerogel.export.torch_reference.load_reference", lambda *_: pytest.fail("loaded"))
    monkeypatch.setenv("AEROGEL_ISA", "foo")
    assert cli.main(["export", str(tiny_checkpoint()), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "AEROGEL_ISA: unknown instruction set 'foo'" in capsys.readouterr().err


def test_nan_weight_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_checkpoint: Callable[..., Path]
) -> None:
    loaded = checkpoint.load(tiny_checkpoint())
    tensors = safetensors.numpy.load_file(loaded.path / "model.safetensors")
    name, mask = next(iter(loaded.masks.items()))
    tensors[name][tuple(np.argwhere(mask)[0])] = np.nan

    def write(folder: Path) -> None:
        shutil.copytree(loaded.path, folder, dirs_exist_ok=True)
        safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    checkpoint.save(tmp_path / "ckpt", loaded.record, loaded.masks, write)
    assert cli.main(["export", str(tmp_path / "ckpt"), "--out", str(tmp_path / "m.onnx")]) == 2
    assert f"{name} has values that are not finite" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


def test_malformed_block_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "ckpt", "--out", "m.onnx", "--block", "4by1"]) == 2
    assert "'4by1' is not ROWSxCOLS" in capsys.readouterr().err


def matrix(kept: int, format_name: str = "csr", weights: str = "fp32") -> dict[str, object]:
    return {
        "shape": [10, 20], "kept": kept, "stored": kept, "format": format_name, "weights": weights, "reason": "because",
        "bytes": kept * 6, "dense_bytes": 800,
        "arrays": {"data": {"dtype": "int8", "shape": [kept, 4, 1]}} if format_name == "bsr" else {},
    }  # fmt: skip


DOCUMENT = {
    "file": "m.onnx",
    "bytes": 2_500_000,
    "max_length": 128,
    "density": 0.2,
    "matrices": {
        "enc.layer.0.query.weight": matrix(20),
        "enc.layer.1.query.weight": matrix(60),
        "enc.layer.2.query.weight": matrix(180, "dense"),
        "enc.layer.0.key.weight": matrix(20, "bsr", "int8"),
    },
    "embeddings": {
        "e.words.weight": {"shape": [100, 20], "weights": "int8", "bytes": 2400, "dense_bytes": 8000},
        "e.kinds.weight": {"shape": [2, 20], "weights": "fp16", "bytes": 80, "dense_bytes": 160},
    },
    "left_out": {"outputs": {}, "weights": {}},
    "removed": None,
    "fusions": {
        "one": {"layers": 2, "found": 3, "reason": "layer 2: Add node x is odd"},
        "two": {"layers": 0, "found": 1, "reason": "it is odd"},
        "three": {"layers": 4, "found": 4, "reason": ""},
    },
    "prediction": {"reason": "nothing was measured"},
    "source": {"kind": "checkpoint"},
    "task": None,
    "parity": {
        "tolerance": 1e-4,
        "onnxruntime": {
            "bundled": {
                "difference": 1e-6, "relative": 2e-6, "texts": 24, "shapes": 8, "labels": 24, "agreeing": 23,
            },
            "file": {
                "difference": 2e-6, "relative": 2e-6, "texts": 872, "shapes": 40, "labels": 0, "agreeing": 0,
                "drift": {"difference": 0.08, "relative": 0.02, "mean": 0.017, "labels": 872, "agreeing": 869},
            },
        },
        "aerogel": {"not_checked": "the native library is not built on this machine"},
    },
}  # fmt: skip


def test_table_joins_layers_with_the_same_storage() -> None:
    shown = table(DOCUMENT)
    columns = {str(column.header): list(column.cells) for column in shown.columns}
    assert columns["matrix"] == ["query", "query", "key"]
    assert columns["count"] == ["2", "1", "1"]
    assert columns["density"] == ["10.0%-30.0%", "90.0%", "10.0%"]
    assert columns["format"] == ["csr", "dense", "bsr-int8 4x1"]
    assert columns["dense"] == ["1.6 kB", "0.8 kB", "0.8 kB"]
    assert [str(column.footer) for column in shown.columns][-2:] == ["3.2 kB", "1.7 kB"]


def test_verdict_has_the_metrics_of_a_task() -> None:
    task = {
        "name": "sst2", "runner": "aerogel", "metrics": {"accuracy": 0.7901}, "checkpoint": {"accuracy": 0.79128},
        "checkpoint_from": "aerogel.json",
    }  # fmt: skip
    assert verdict(DOCUMENT | {"task": task}).splitlines()[-1] == (
        "sst2, with the sparse kernels: accuracy 79.01, checkpoint 79.13 (from aerogel.json)"
    )


def test_verdict_lists_checks_that_ran_and_that_were_skipped() -> None:
    lines = verdict(DOCUMENT).splitlines()
    assert lines[0] == "m.onnx: 2.5 MB, sequences up to 128 tokens"
    assert lines[1:4] == [
        "one fusion: 2 of 3 layers in one node; layer 2: Add node x is odd",
        "two fusion: 0 of 1 layers in one node; it is odd",
        "three fusion: 4 of 4 layers in one node",
    ]
    assert lines[4] == "embeddings: 2.5 kB instead of 8.2 kB: int8 words; fp16 kinds"
    assert lines[5] == "speed not predicted: nothing was measured"
    lines = lines[5:]
    assert lines[1].startswith(
        "stock ONNX Runtime: agrees with PyTorch on 24 texts (8 shapes), largest difference 1e-06"
    )
    assert lines[1].endswith("23 of 24 labels agree")
    assert "872 texts (the given file)" in lines[2]
    assert "labels" not in lines[2]
    assert lines[3] == (
        "stock ONNX Runtime: compared with the unrounded checkpoint, largest difference 0.08 "
        "(0.02 of the output's scale), mean 0.017, 869 of 872 labels agree"
    )
    assert lines[4] == "with the sparse kernels: not checked, the native library is not built on this machine"
    assert verdict(DOCUMENT | {"fusions": {}}).splitlines()[1] == (
        "no layers fused (--no-fuse, or --format dense or compact)"
    )


def test_dry_run_writes_nothing_but_the_report(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(tiny_checkpoint("bert", num_hidden_layers=1))
    out, report = tmp_path / "out" / "m.onnx", tmp_path / "report.json"
    assert cli.main(["export", checkpoint, "--out", str(out), "--dry-run", "--json", str(report)]) == 0
    assert list(tmp_path.iterdir()) == [report]
    document = json.loads(report.read_text())
    assert document["dry_run"]
    printed = capsys.readouterr().out
    assert "dry run, nothing written. m.onnx would have" in printed
    assert "attention.self.query" in printed
    assert cli.main(["export", checkpoint, "--out", str(out), "--dry-run", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == document
