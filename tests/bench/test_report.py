from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from aerogel.bench import plot, report
from aerogel.bench.result import Report, Run, Settings, Skipped
from aerogel.bench.statistics import speedup, summarise
from aerogel.errors import UsageError


def run(model: str, candidate: str, milliseconds: float, difference: float | None = None) -> Run:
    latency = summarise([[milliseconds / 1000] * 3] * 2)
    wrong = difference is not None and difference > 0.1
    return Run(
        model=Path(model),
        candidate=candidate,
        setting="default",
        tried={"default": milliseconds, "other": milliseconds + 1},
        size=12_345_678,
        open_seconds=0.25,
        memory={
            "before_load": 30_000_000,
            "after_load": 80_000_000,
            "after_runs": 90_000_000,
            "peak": 120_000_000,
        },
        share=0.99,
        difference=difference,
        latency=latency,
        speedup=None if wrong else speedup(summarise([[0.12] * 3] * 2), latency),
    )


@pytest.fixture
def measured() -> Report:
    runs = [
        run("out/dense/model.onnx", "onnxruntime", 120),
        run("out/csr/model.onnx", "onnxruntime", 121),
        run("out/csr/model.onnx", "aerogel", 40, difference=1e-6),
        run("out/csr/model.onnx", "broken", 1, difference=0.5),
    ]
    skipped = [Skipped(Path("out/dense/model.onnx"), "aerogel", "no sparse function")]
    return Report(Settings(rounds=2), 3, runs, runs[0], skipped, ["beware"])


def test_document_has_everything_and_is_json(measured: Report) -> None:
    document = json.loads(json.dumps(report.document(measured)))
    assert set(document) == {
        "schema", "time", "machine", "versions", "settings", "baseline", "runs", "skipped", "warnings",
    }  # fmt: skip
    assert document["schema"] == 1
    assert set(document["machine"]) == {"cpu", "cores", "features", "kernels", "system"}
    assert set(document["versions"]) == {"aerogel", "numpy", "onnxruntime"}
    assert document["settings"] == {
        "threads": 1,
        "batch": 1,
        "seq": 128,
        "rounds": 2,
        "repeats": 3,
        "seed": 0,
    }
    assert document["baseline"] == {"model": "out/dense/model.onnx", "candidate": "onnxruntime"}
    assert document["skipped"] == [
        {"model": "out/dense/model.onnx", "candidate": "aerogel", "reason": "no sparse function"}
    ]
    assert document["warnings"] == ["beware"]
    sparse, broken = document["runs"][2:]
    assert sparse["latency_ms"] == {
        "median": pytest.approx(40), "p90": pytest.approx(40), "p99": pytest.approx(40), "spread": 0,
        "round_medians": [pytest.approx(40)] * 2,
    }  # fmt: skip
    assert sparse["speedup"] == {
        "median": pytest.approx(3),
        "low": pytest.approx(3),
        "high": pytest.approx(3),
    }
    assert sparse["correct"] is True
    assert sparse["settings_tried_ms"] == {"default": 40, "other": 41}
    assert sparse["memory_bytes"]["after_runs"] == 90_000_000
    assert broken["correct"] is False
    assert broken["speedup"] is None


@pytest.mark.parametrize("apart", [math.inf, math.nan])
def test_document_is_strict_json_where_outputs_cannot_be_compared(measured: Report, apart: float) -> None:
    runs = [*measured.runs[:1], run("out/csr/model.onnx", "broken", 1, difference=apart)]
    made = Report(measured.settings, 3, runs, runs[0])
    found = json.loads(json.dumps(report.document(made), allow_nan=False))["runs"][1]
    assert (found["relative_difference"], found["correct"]) == (None, False)


def test_labels_take_as_many_folders_as_tell_files_apart(measured: Report) -> None:
    assert sorted(report.labels(measured).values()) == ["csr/model.onnx", "dense/model.onnx"]
    only = Report(measured.settings, 3, measured.runs[:1], measured.runs[0])
    assert list(report.labels(only).values()) == ["model.onnx"]


def test_markdown_rows(measured: Report) -> None:
    lines = report.markdown(measured).splitlines()
    assert lines[0] == "batch 1, sequence 128, 1 thread; 2 rounds of 3 inferences"
    assert (
        "| dense/model.onnx | onnxruntime | 120.00 | 120.00 | 120.00 | 0.0% | baseline | 0.25 | 90 | 120 | 12 |"
        in lines
    )
    assert (
        "| csr/model.onnx | aerogel | 40.00 | 40.00 | 40.00 | 0.0% | 3.00 (3.00-3.00) | 0.25 | 90 | 120 | 12 |"
        in lines
    )
    assert any("| broken |" in line and "| wrong output |" in line for line in lines)
    assert lines[-1] == "Warning: beware"


def test_plot_is_a_picture_with_a_bar_per_run(measured: Report, tmp_path: Path) -> None:
    plot.plot(measured, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    plot.plot(measured, tmp_path / "bench.svg")
    drawing = (tmp_path / "bench.svg").read_text()
    assert "<svg" in drawing
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.png", "bench.svg"]


def test_plot_refuses_other_files(measured: Report, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--plot .*bench\.xyz: unknown kind of picture"):
        plot.plot(measured, tmp_path / "bench.xyz")
    assert list(tmp_path.iterdir()) == []
