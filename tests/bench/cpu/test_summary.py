from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.bench.cpu.summary import Curve, break_even, curves, density_plot, markdown
from aerogel.bench.cpu.targets import Outcome
from aerogel.bench.precision import Precision
from aerogel.bench.result import Report, Run, Settings
from aerogel.bench.statistics import speedup, summarise


def run(label: str, backend: str, precision: str, milliseconds: float) -> Run:
    latency = summarise([[milliseconds / 1000]])
    return Run(
        model=Path("m"), label=label, backend=backend, precision=Precision.parse(precision), variant="s", variant_ms={},
        details="",
        size=1, load_seconds=1.0, memory={"after_runs": 1, "peak": 1}, cpu_utilization=1.0, reference=Path("r"),
        relative_error=0.0, latency=latency, speedup=speedup(latency, latency),
    )  # fmt: skip


def report(percent: int, csr: float, blocks: float, dense: float, int8: tuple[float, float]) -> Report:
    runs = [
        run("90% unstructured", "onnxruntime", "dense fp32", dense),
        run("90% unstructured", "onnxruntime-int8", "dense int8", int8[0]),
        run("90% unstructured", "openvino-int8", "dense int8", int8[1]),
        run(f"{100 - percent}% unstructured", "aerogel", "sparse fp32", csr),
        run(f"{100 - percent}% 4x1", "aerogel", "sparse fp32", blocks),
    ]
    return Report(Settings(), 1, runs, runs[0])


@pytest.fixture
def found() -> tuple[list[Curve], dict[str, float]]:
    return curves(
        {
            40: report(40, 80, 40, 102, (40, 30)),
            10: report(10, 20, 10, 98, (35, 32)),
            20: report(20, 40, 20, 100, (31, 33)),
        }
    )


def test_curves_by_density_and_levels_of_the_best_dense(found: tuple[list[Curve], dict[str, float]]) -> None:
    lines, dense = found
    assert [(curve.name, curve.percent) for curve in lines] == [
        ("unstructured, fp32, aerogel", (10, 20, 40)),
        ("4x1, fp32, aerogel", (10, 20, 40)),
    ]
    assert lines[0].milliseconds == pytest.approx((20, 40, 80))
    assert lines[0].ratios["dense fp32"] == pytest.approx((20 / 98, 40 / 100, 80 / 102))
    assert lines[0].ratios["dense int8"] == pytest.approx((20 / 32, 40 / 31, 80 / 30))
    # Medians of 98, 100, 102 and of the faster int8 of each report: 30, 31, 32.
    assert dense == {"dense fp32": pytest.approx(100), "dense int8": pytest.approx(31)}


def test_break_even_is_interpolated() -> None:
    def at(*ratios: float) -> str:
        return break_even(Curve("c", (10, 20, 40), (1.0, 1.0, 1.0), {"dense": ratios}), "dense")

    assert at(0.5, 1.5, 2.0) == "15%"
    assert at(0.2, 0.5, 1.5) == "30%"
    assert at(0.2, 0.5, 1.0) == "40%"
    assert at(1.0, 1.5, 2.0) == "below 10%"
    assert at(0.2, 0.5, 0.9) == "above 40%"
    assert break_even(Curve("c", (10,), (1.0,), {}), "dense") == "not measured"


def test_the_document_has_targets_tables_and_break_even(
    found: tuple[list[Curve], dict[str, float]], tmp_path: Path
) -> None:
    lines, dense = found
    outcomes = [
        Outcome("faster", "main-1", "at least 2", 2.5, "8.00 ms against 20.00 (x)", True),
        Outcome("smaller", "main-1", "at most 42%", 0.5, "50 MB against 100 (x)", False),
        Outcome("other", "main-2", "at least 2", None, "not measured: y", None),
    ]
    text = markdown(
        "cmd", [("the model, one thread", report(10, 20, 10, 98, (35, 32)))], outcomes, lines, dense, ["no x"]
    )
    assert "    cmd" in text
    assert "- no x" in text
    assert "| faster | main-1 | at least 2 | 2.50 | met | 8.00 ms against 20.00 (x) |" in text
    assert "| smaller | main-1 | at most 42% | 50% | missed | 50 MB against 100 (x) |" in text
    assert "| other | main-2 | at least 2 | - | not measured | not measured: y |" in text
    assert "## the model, one thread" in text
    assert "| unstructured, fp32, aerogel | 20.0 | 40.0 | 80.0 | above 40% | 16% |" in text
    assert text.endswith("Levels: dense fp32 100.0 ms, dense int8 31.0 ms.\n")
    density_plot(lines, dense, tmp_path / "density.png")
    assert (tmp_path / "density.png").read_bytes().startswith(b"\x89PNG")
