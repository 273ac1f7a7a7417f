from __future__ import annotations

import json
from pathlib import Path

import pytest

from aerogel.bench.gpu import results as documents
from aerogel.bench.gpu.case import Case, Target
from aerogel.bench.gpu.results import Results
from aerogel.bench.gpu.summary import markdown, verdict
from aerogel.errors import DataError

MACHINE, VERSIONS = {"device": "a"}, {"torch": "2"}
ROW = {
    "ms": 2.0,
    "low": 1.0,
    "high": 3.0,
    "graph": True,
    "bytes": 1_000_000,
    "moved": 2_000_000,
    "operations": 10**9,
}


def test_round_trip_without_failed_cases(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    found = Results(
        dict(MACHINE), dict(VERSIONS), {"copy": 1e12}, {"a": {"rows": {"w": ROW}}, "b": {"error": "x"}}
    )
    documents.save(path, found)
    again = documents.load(path, dict(MACHINE), dict(VERSIONS))
    assert (again.roofline, list(again.cases)) == ({"copy": 1e12}, ["a"])
    for machine, versions in (({"device": "b"}, VERSIONS), (MACHINE, {"torch": "3"})):
        assert documents.load(path, dict(machine), dict(versions)).cases == {}
    assert documents.load(tmp_path / "none.json", {}, {}).cases == {}


@pytest.mark.parametrize(
    "change",
    [
        {"cases": []},
        {"cases": {"a": {"rows": {"w": {"ms": 0}}}}},
        {"cases": {"a": 1}},
        {"roofline": {"copy": "1"}},
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "results.json"
    documents.save(path, Results(dict(MACHINE), dict(VERSIONS)))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=r"results\.json is not a results file of this command"):
        documents.load(path, dict(MACHINE), dict(VERSIONS))
    path.write_text("no json")
    with pytest.raises(DataError, match="move it away"):
        documents.load(path, dict(MACHINE), dict(VERSIONS))


def test_verdicts() -> None:
    rows = {
        "dense": {"ms": 4.0, "bytes": 100},
        "sparse": {"ms": 2.0, "bytes": 50},
        "other": {"error": "too large"},
    }
    assert verdict(rows, Target("sparse", "dense", 2.0)) == (2.0, "met")
    assert verdict(rows, Target("sparse", "dense", 2.1)) == (2.0, "missed")
    assert verdict(rows, Target("sparse", "dense", 4.0, "bytes")) == (2.0, "missed")
    assert verdict(rows, Target("sparse", "other", 1.0)) == (None, "not measured (other: too large)")
    assert verdict({}, Target("sparse", "dense", 1.0)) == (None, "not measured (sparse: skipped)")


def test_numbers_in_the_tables() -> None:
    case = Case(
        "a case",
        "product",
        ("dense", "sparse"),
        (8, 8),
        (1, 1),
        0.1,
        "float16",
        4,
        (Target("sparse", "dense", 1.5),),
    )
    found = Results(
        dict(MACHINE), dict(VERSIONS), {"copy": 2e9, "matmul float16": 1e12},
        {"a case": {"rows": {"dense": ROW, "sparse": {**ROW, "ms": 1.0}, "odd": {"error": "a | b\nc"}}}},
    )  # fmt: skip
    lines = markdown("command", found, [case]).splitlines()
    assert "- copy: 2 GB/s, the peak rate of this run" in lines
    assert "| a case | sparse 1.5x faster than dense | 2.00 | met |" in lines
    # 2 MB in 1 ms are 100% of 2 GB/s, and 1e9 operations 100% of 1e12.
    assert "| a case | sparse | 1 | 1-3 | 2.00 | 100% | 100% | 1.00 |  |" in lines
    assert "| a case | odd | | | | | | | a / b c |" in lines
    assert not any("dry run" in line for line in lines)
