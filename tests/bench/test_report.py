from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from aerogel.bench import plot, report, schema
from aerogel.bench.precision import Precision
from aerogel.bench.result import Report, Run, Settings, Skipped
from aerogel.bench.statistics import speedup, summarise
from aerogel.errors import DataError, UsageError


def run(
    label: str, backend: str, milliseconds: float, precision: str = "dense fp32", error: float | None = None
) -> Run:
    latency = summarise([[milliseconds / 1000] * 3] * 2)
    wrong = error is not None and not error <= Precision.parse(precision).tolerance
    return Run(
        model=Path("out", label),
        label=label,
        backend=backend,
        precision=Precision.parse(precision),
        variant="default",
        variant_ms={"default": milliseconds, "other": milliseconds + 1},
        details="" if backend == "onnxruntime" else f"{backend} 1.0",
        size=12_345_678,
        load_seconds=0.25,
        memory={
            "before_load": 30_000_000,
            "after_load": 80_000_000,
            "after_runs": 90_000_000,
            "peak": 120_000_000,
        },
        cpu_utilization=0.99,
        reference=Path("out/dense.onnx"),
        relative_error=error,
        latency=latency,
        speedup=None if wrong else speedup(summarise([[0.12] * 3] * 2), latency),
    )


@pytest.fixture
def measured() -> Report:
    runs = [
        run("dense.onnx", "onnxruntime", 120),
        run("csr.onnx", "aerogel", 40, "sparse fp32", 1e-6),
        run("int8.onnx", "aerogel", 20, "sparse int8", 0.03),
        run("csr.onnx", "broken", 1, "sparse fp32", 0.5),
    ]
    skipped = [
        Skipped(Path("out/csr.onnx"), name, "it runs standard operators only") for name in ("first", "second")
    ]
    return Report(Settings(rounds=2), 3, runs, runs[0], skipped, ["beware"])


def test_document_has_every_field_and_is_json(measured: Report) -> None:
    found = json.loads(json.dumps(schema.document([schema.encode(measured, "abc")])))
    assert found["schema"] == 3
    (result,) = found["configurations"]
    assert set(result) == {
        "time", "identity", "machine", "versions", "library", "settings", "baseline", "runs", "skipped", "warnings",
    }  # fmt: skip
    assert set(result["machine"]) == {"cpu", "cores", "features", "kernels", "system"}
    assert set(result["versions"]) == {"aerogel", "numpy", "onnxruntime"}
    assert result["settings"] == {
        "threads": 1, "batch": 1, "seq": 128, "rounds": 2, "iterations": 3, "seed": 0, "lengths": [],
    }  # fmt: skip
    assert (result["baseline"], result["identity"]) == (0, "abc")
    assert [item["backend"] for item in result["skipped"]] == ["first", "second"]
    assert result["warnings"] == ["beware"]
    sparse, int8, broken = result["runs"][1:]
    assert sparse["latency_ms"] == {
        "median": pytest.approx(40), "p90": pytest.approx(40), "p99": pytest.approx(40), "spread": 0,
        "round_medians": [pytest.approx(40)] * 2,
    }  # fmt: skip
    assert sparse["speedup"] == {
        "median": pytest.approx(3),
        "low": pytest.approx(3),
        "high": pytest.approx(3),
    }
    assert (sparse["precision"], sparse["tolerance"], sparse["correct"]) == ("sparse fp32", 1e-4, True)
    assert (int8["precision"], int8["tolerance"], int8["correct"]) == ("sparse int8", 0.12, True)
    assert sparse["variant_ms"] == {"default": 40, "other": 41}
    assert sparse["memory_bytes"]["after_runs"] == 90_000_000
    assert (broken["correct"], broken["speedup"]) == (False, None)


def test_document_round_trip(measured: Report, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(schema.document([schema.encode(measured)])))
    (result,) = schema.load(file)
    # The settings that are read back have the number of iterations that was run.
    assert schema.parse(result) == replace(measured, settings=replace(measured.settings, repeats=3))
    assert schema.load(tmp_path / "nothing.json") == []


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        "[" * 200_000,
        '{"schema": 2, "points": []}',
        '{"schema": 3, "configurations": [{}]}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"bench\.json|measure again"):
        schema.load(file)


@pytest.mark.parametrize("error", [math.inf, math.nan])
def test_document_is_strict_json_if_outputs_cannot_be_compared(measured: Report, error: float) -> None:
    runs = [*measured.runs[:1], run("csr.onnx", "broken", 1, "sparse fp32", error)]
    made = Report(measured.settings, 3, runs, runs[0])
    found = json.loads(json.dumps(schema.encode(made), allow_nan=False))
    assert (found["runs"][1]["relative_error"], found["runs"][1]["correct"]) == (None, False)
    assert not schema.parse(found).runs[1].correct


def test_everything_that_can_change_the_result_changes_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"a")
    library = tmp_path / "library.so"
    library.write_bytes(b"a")
    monkeypatch.setattr(schema, "find_library", lambda: library)
    monkeypatch.setattr(schema, "describe", lambda: {"cpu": "one"})
    seen = [schema.identity([model], Settings())]
    assert schema.identity([model], Settings()) == seen[0]
    model.write_bytes(b"ab")
    seen.append(schema.identity([model], Settings()))
    library.write_bytes(b"b")
    seen.append(schema.identity([model], Settings()))
    seen.append(schema.identity([model], Settings(threads=2)))
    seen.append(schema.identity([model], Settings(threads=2), ["deepsparse"]))
    monkeypatch.setattr(schema, "describe", lambda: {"cpu": "another"})
    seen.append(schema.identity([model], Settings(threads=2), ["deepsparse"]))
    assert len(set(seen)) == 6


def test_markdown_rows(measured: Report) -> None:
    text = report.markdown(measured)
    lines = text.splitlines()
    assert lines[0] == "batch 1, sequence 128, 1 thread; 2 rounds of 3 iterations"
    assert (
        "| dense.onnx | onnxruntime | dense fp32 | 120.00 | 120.00 | 120.00 | 0.0% | baseline | - | 0.25 | 90 "
        "| 120 | 12 |" in lines
    )
    assert (
        "| csr.onnx | aerogel | sparse fp32 | 40.00 | 40.00 | 40.00 | 0.0% | 3.00 (3.00-3.00) | 1e-06 | 0.25 | 90 "
        "| 120 | 12 |" in lines
    )
    assert any("| broken |" in line and "| wrong output |" in line for line in lines)
    assert "at most 0.0001 in fp32, 0.12 in int8" in text
    assert text.count("aerogel 1.0") == 1
    assert "Note: csr.onnx was not run on first, second: it runs standard operators only" in lines
    assert lines[-1] == "Warning: beware"


def test_the_title_has_the_fraction_of_padding() -> None:
    settings = Settings(threads=2, batch=3, seq=100, lengths=(20, 30, 100))
    assert report.title(settings) == "batch 3 of 20 to 100 tokens (50% padding), 2 threads"


def test_plot_writes_pictures(measured: Report, tmp_path: Path) -> None:
    plot.plot([measured, measured], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    plot.plot([measured, measured], tmp_path / "bench.svg")
    assert "<svg" in (tmp_path / "bench.svg").read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.png", "bench.svg"]


def test_plot_refuses_other_formats(measured: Report, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--plot .*bench\.xyz: unknown picture format"):
        plot.plot([measured, measured], tmp_path / "bench.xyz")
    assert list(tmp_path.iterdir()) == []
