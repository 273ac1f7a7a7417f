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
    label: str, candidate: str, kind: str, rounds: list[float], resident: int = 100, right: bool = True
) -> Run:
    latency = summarise([[seconds / 1000] for seconds in rounds])
    return Run(
        model=Path("m"), label=label, candidate=candidate, kind=Precision.parse(kind), setting="s", tried={},
        details="",
        size=1, open_seconds=1.0, memory={"after_runs": resident * 10**6}, share=1.0, reference=Path("r"),
        difference=0.0 if right else math.inf, latency=latency, speedup=speedup(latency, latency),
    )  # fmt: skip


def report(*runs: Run) -> Report:
    return Report(Settings(), 1, list(runs), runs[0])


OURS, DENSE, INT8 = (
    ["90%", "aerogel", "sparse fp32"],
    ["90%", "onnxruntime", "dense fp32"],
    ["90%", "q", "dense int8"],
)


def entry(**changes: Any) -> list[dict[str, Any]]:
    return [{"what": "w", "points": ["p"], "row": OURS, "against": [DENSE], "at_least": 3} | changes]


@pytest.fixture
def measured() -> dict[str, Report]:
    return {
        "p": report(
            run("90%", "onnxruntime", "dense fp32", [100, 200, 400], 500),
            run("90%", "q", "dense int8", [40, 80, 160], 200),
            run("90%", "aerogel", "sparse fp32", [25, 50, 100], 150),
            run("90%", "broken", "sparse fp32", [1, 1, 1], right=False),
        ),
        "two": report(run("90%", "aerogel", "sparse fp32", [20, 20, 20])),
    }


def test_ratios_are_of_rounds_that_stood_beside_one_another(measured: dict[str, Report]) -> None:
    (found,) = check(measured, entry())
    assert (found.found, found.met, found.aim) == (4, True, "at least 3")
    assert "50.00 ms against 200.00 (onnxruntime)" in found.detail
    (missed,) = check(measured, entry(at_least=4.5))
    assert missed.met is False


def test_the_best_of_several_rivals_counts(measured: dict[str, Report]) -> None:
    (found,) = check(measured, entry(against=[DENSE, INT8]))
    assert found.found == pytest.approx(1.6)


def test_memory_is_a_share_at_most(measured: dict[str, Report]) -> None:
    changes = {"at_most": 0.42}
    base = {key: value for key, value in entry()[0].items() if key != "at_least"}
    (found,) = check(measured, [base | changes])
    assert (found.found, found.met, found.aim) == (pytest.approx(0.3), True, "at most 42%")
    (missed,) = check(measured, [base | {"at_most": 0.28}])
    assert missed.met is False


def test_a_row_of_another_point(measured: dict[str, Report]) -> None:
    (found,) = check(measured, entry(points=["two"], against=[OURS], other_point="p", at_least=1.8))
    assert (found.found, found.met) == (pytest.approx(2.5), True)


@pytest.mark.parametrize(
    "changes",
    [
        {"points": ["nowhere"]},
        {"row": ["90%", "broken", "sparse fp32"]},
        {"against": [["90%", "deepsparse", "sparse fp32"]]},
        {"row": ["80%", "aerogel", "sparse fp32"]},
    ],
)
def test_what_was_not_measured_or_wrong_is_neither_met_nor_missed(
    measured: dict[str, Report], changes: dict[str, Any]
) -> None:
    (found,) = check(measured, entry(**changes))
    assert (found.found, found.met) == (None, None)
    assert found.detail.startswith("not measured: ")


def test_the_file_is_well_formed() -> None:
    for item in load():
        assert ("at_least" in item) != ("at_most" in item)
        assert {"what", "points", "row", "against"} <= set(item)
        Precision.parse(item["row"][2])
