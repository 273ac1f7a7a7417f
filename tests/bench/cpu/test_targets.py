from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from aerogel.bench.cpu.targets import check, load
from aerogel.bench.precision import Precision
from aerogel.bench.result import Report, Run, Settings
from aerogel.bench.statistics import speedup, summarise


def run(
    label: str, backend: str, precision: str, rounds: list[float], rss: int = 100, correct: bool = True
) -> Run:
    latency = summarise([[seconds / 1000] for seconds in rounds])
    return Run(
        model=Path("m"), label=label, backend=backend, precision=Precision.parse(precision), variant="s", variant_ms={},
        details="",
        size=1, load_seconds=1.0, memory={"after_runs": rss * 10**6}, cpu_utilization=1.0, reference=Path("r"),
        relative_error=0.0 if correct else math.inf, latency=latency, speedup=speedup(latency, latency),
    )  # fmt: skip


def report(*runs: Run) -> Report:
    return Report(Settings(), 1, list(runs), runs[0])


SPARSE, DENSE, INT8 = (
    ["90%", "aerogel", "sparse fp32"],
    ["90%", "onnxruntime", "dense fp32"],
    ["90%", "q", "dense int8"],
)


def entry(**changes: Any) -> list[dict[str, Any]]:
    return [
        {"target": "t", "configurations": ["p"], "row": SPARSE, "against": [DENSE], "at_least": 3} | changes
    ]


@pytest.fixture
def measured() -> dict[str, Report]:
    return {
        "p": report(
            run("90%", "onnxruntime", "dense fp32", [100, 200, 400], 500),
            run("90%", "q", "dense int8", [40, 80, 160], 200),
            run("90%", "aerogel", "sparse fp32", [25, 50, 100], 150),
            run("90%", "broken", "sparse fp32", [1, 1, 1], correct=False),
        ),
        "two": report(run("90%", "aerogel", "sparse fp32", [20, 20, 20])),
    }


def test_ratios_compare_round_by_round(measured: dict[str, Report]) -> None:
    (found,) = check(measured, entry())
    assert (found.found, found.met, found.aim) == (4, True, "at least 3")
    assert "50.00 ms against 200.00 (onnxruntime)" in found.detail
    (missed,) = check(measured, entry(at_least=4.5))
    assert missed.met is False


def test_the_best_of_several_rows_counts(measured: dict[str, Report]) -> None:
    (found,) = check(measured, entry(against=[DENSE, INT8]))
    assert found.found == pytest.approx(1.6)


def test_memory_is_a_fraction_at_most(measured: dict[str, Report]) -> None:
    changes = {"at_most": 0.42}
    base = {key: value for key, value in entry()[0].items() if key != "at_least"}
    (found,) = check(measured, [base | changes])
    assert (found.found, found.met, found.aim) == (pytest.approx(0.3), True, "at most 42%")
    (missed,) = check(measured, [base | {"at_most": 0.28}])
    assert missed.met is False


def test_a_row_of_another_configuration(measured: dict[str, Report]) -> None:
    (found,) = check(
        measured, entry(configurations=["two"], against=[SPARSE], against_configuration="p", at_least=1.8)
    )
    assert (found.found, found.met) == (pytest.approx(2.5), True)


@pytest.mark.parametrize(
    "changes",
    [
        {"configurations": ["nowhere"]},
        {"row": ["90%", "broken", "sparse fp32"]},
        {"against": [["90%", "deepsparse", "sparse fp32"]]},
        {"row": ["80%", "aerogel", "sparse fp32"]},
    ],
)
def test_rows_without_correct_results_are_neither_met_nor_missed(
    measured: dict[str, Report], changes: dict[str, Any]
) -> None:
    (found,) = check(measured, entry(**changes))
    assert (found.found, found.met) == (None, None)
    assert found.detail.startswith("not measured: ")


def test_the_file_is_well_formed() -> None:
    for item in load():
        assert ("at_least" in item) != ("at_most" in item)
        assert {"target", "configurations", "row", "against"} <= set(item)
        Precision.parse(item["row"][2])
