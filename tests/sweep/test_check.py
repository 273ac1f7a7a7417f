from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import UsageError
from aerogel.sweep.check import check_runs
from aerogel.sweep.plan import Sweep, plan


def checked(tmp_path: Path, grids: list[dict[str, Any]], **base: Any) -> None:
    check_runs(plan(Sweep({"task": "synthetic"} | base, grids), tmp_path))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"method": ["soft-movement", "l0", "magnitude"], "option lambda": 3.0},
            r"--option lambda: soft-movement and l0 accept it, method magnitude does not; .* \[\[grid\]\]",
        ),
        ({"method": "magnitude", "option lambda": 3.0}, r"--option lambda: method magnitude .*; it has none"),
        (
            {"method": ["l0", "rpp"], "option x": 3.0},
            r"--option x: method l0 has no such option; known: lambda",
        ),
        ({"method": ["l0", "dense"], "option lambda": -1.0}, r"lambda.*-1.*"),
        ({"method": ["magnitude", "movment"]}, r"unknown method 'movment'.*did you mean movement"),
        ({"task": "sst"}, r"unknown task 'sst'.*sst2"),
        ({"task-option stride": 3}, r"--task-option stride.*"),
        (
            {"method": ["movement", "nip"], "save_scores": True},
            r"--save-scores: method nip learns no scores; .*grid",
        ),
    ],
)
def test_invalid_settings_of_a_method_are_rejected(
    tmp_path: Path, grid: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        checked(tmp_path, [grid], density=0.5)


def test_valid_settings_are_accepted(tmp_path: Path) -> None:
    checked(
        tmp_path,
        [
            {"method": ["dense", "l0", "soft-movement"], "option lambda": ["3", 4.0]},
            {"method": "rpp", "option gamma": 1e-3},
        ],
    )
    checked(tmp_path, [{"method": ["dense", "movement"], "density": 0.5, "save_scores": True}])
    checked(tmp_path, [{"freeze_mask": True, "model": "somewhere"}, {"method": "magnitude"}])
