from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aerogel.sweep.execute import Outcome
from aerogel.sweep.plan import Run, Sweep, plan
from aerogel.sweep.report import results
from aerogel.sweep.summary import Spread, groups, interpolate, pareto
from aerogel.train.config import TrainConfig


def outcome(method: str, density: float, value: float | None, seed: int = 0, **swept: Any) -> Outcome:
    task = swept.get("task", "t")
    knob = {"density": density} if "density" not in swept and "option lambda" not in swept else {}
    config = TrainConfig(task=task, out=Path(f"{method}{density}{seed}"), method=method, seed=seed)
    run = Run(f"{method}-{density}-{seed}", config, {"method": method, "seed": seed, **knob, **swept}, "1234")
    if value is None:
        return Outcome(run, error="the loss is nan | at step 3")
    return Outcome(run, None, {"accuracy": value}, density, density + 0.001, 1.0)


def test_groups_have_mean_and_deviation_over_seeds() -> None:
    found = groups([outcome("m", 0.1, v, seed) for seed, v in enumerate((0.7, 0.8, None, 0.9))])
    assert len(found) == 1
    spread = found[0].metrics["accuracy"]
    assert (spread.mean, spread.sd, spread.n) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    assert found[0].failed == 1
    assert f"{spread:.2f}" == "0.80 ± 0.10"
    assert f"{Spread.of([0.5]):.2f}" == "0.50"
    assert groups([outcome("m", 0.1, None)])[0].density is None


def test_interpolation_by_hand() -> None:
    runs = [
        outcome("soft", 0.20, 0.80, 0, **{"option lambda": 100}),
        outcome("soft", 0.05, 0.50, 0, **{"option lambda": 400}),
        outcome("soft", 0.12, 0.70, 1, **{"option lambda": 100}),
        outcome("soft", 0.08, 0.60, 1, **{"option lambda": 400}),
        outcome("dense", 1.0, 0.9),
    ]
    near, far = interpolate(runs, (0.1, 0.03))
    # Seed 0: 0.5 + (0.1 - 0.05) / 0.15 x 0.3 = 0.6; seed 1: half way, 0.65.
    spread = near.metrics["accuracy"]
    assert (spread.mean, spread.n) == (pytest.approx(0.625), 2)
    assert spread.sd == pytest.approx(0.05 / 2**0.5)
    assert far.metrics == {}


def test_interpolation_uses_the_nearest_runs() -> None:
    runs = [outcome("m", d, v) for d, v in ((0.3, 0.9), (0.1000001, 0.7), (0.05, 0.6), (0.030001, 0.2))]
    at = {p.density: p.metrics for p in interpolate(runs, (0.1, 0.2, 0.03, 0.3, 0.31, 0.02))}
    assert at[0.1]["accuracy"].mean == pytest.approx(0.7, abs=1e-5)
    assert at[0.2]["accuracy"].mean == pytest.approx(0.8, abs=1e-5)
    assert at[0.03]["accuracy"].mean == 0.2
    assert at[0.3]["accuracy"].mean == 0.9
    assert at[0.31] == at[0.02] == {}


def test_runs_with_other_settings_are_not_interpolated() -> None:
    runs = [outcome("m", 0.3, 0.9, lr=1e-3), outcome("m", 0.1, 0.5, lr=1e-4)]
    for run in runs:
        run.run.swept["density"] = run.density
    assert [point.metrics for point in interpolate(runs, (0.2,))] == [{}, {}]


def test_pareto_front() -> None:
    found = groups(
        [outcome("a", 0.1, 0.7), outcome("b", 0.1, 0.8), outcome("a", 0.3, 0.75), outcome("b", 0.5, 0.9)]
    )
    assert [(group.method, group.swept["density"]) for group in pareto(found, "accuracy")] == [
        ("b", 0.1),
        ("b", 0.5),
    ]


def test_each_problem_has_its_own_pareto_front(tmp_path: Path) -> None:
    # The task varies only among the dense runs, so `swept` of the others does not have it.
    grids = [
        {"method": "magnitude", "task": "sst2", "density": [0.1, 0.3]},
        {"method": "movement", "task": "rte", "density": [0.1, 0.3]},
        {"method": "dense", "task": ["sst2", "rte"]},
    ]
    runs = zip(plan(Sweep({}, grids), tmp_path), (0.8, 0.9, 0.6, 0.5, 0.7, 0.65), strict=True)
    found = results(
        [Outcome(run, None, {"accuracy": v}, run.config.density, 0.5, 1.0) for run, v in runs], (), None
    )
    assert [(group.method, group.swept.get("density")) for group in found.front] == [
        ("magnitude", 0.1), ("magnitude", 0.3), ("movement", 0.1), ("dense", None),
    ]  # fmt: skip
    assert "Pareto front" not in [
        text.get_text() for text in found.picture().axes[0].get_legend().get_texts()
    ]


def test_low_densities_are_distinguished() -> None:
    runs = [outcome("m", 0.0006, 0.6), outcome("m", 0.0014, 0.8)]
    assert interpolate(runs, (0.001,))[0].metrics["accuracy"].mean == pytest.approx(0.7)
    assert interpolate(runs[1:], (0.001,))[0].metrics == {}
    # A density of 0 is not plotted on the logarithmic axis.
    picture = results([outcome("m", 0.0, 0.1), *runs, outcome("m", 0.3, 0.9)], (), None).picture()
    low, high = picture.axes[0].get_xlim()
    assert 1e-4 < low < 0.0006
    assert 0.3 < high < 1
    assert [float(tick.get_text()) for tick in picture.axes[0].get_xticklabels()] == [0.0006, 0.0014, 0.3]


def test_document_tables_and_picture() -> None:
    runs = [outcome("m", d, v, s) for d, v in ((0.3, 0.9), (0.1, 0.7)) for s in (0, 1)]
    runs += [outcome("m", 0.03, None), outcome("dense", 1.0, 0.95)]
    found = results(runs, (0.2,), None)
    document = json.loads(json.dumps(found.document(), default=str, allow_nan=False))
    assert document["metric"] == "accuracy"
    assert [group["pareto"] for group in document["groups"]] == [True, True, False, True]
    assert document["interpolated"][0]["metrics"]["accuracy"]["mean"] == pytest.approx(0.8)
    assert document["runs"][4]["error"] == "the loss is nan | at step 3"
    text = found.markdown()
    assert "| m | density 0.3 | 0.3000 ± 0.0000 | 0.3010 ± 0.0000 | 2 | 0 | 0.9000 ± 0.0000 | * |" in text
    # The failed run is counted: it may have been a nearer neighbor.
    assert "| m |  | 0.2 | 2 | 1 | 0.8000 ± 0.0000 |" in text
    assert "1 runs failed" in text
    assert found.picture().axes[0].get_ylabel() == "accuracy"


def test_results_without_finished_runs() -> None:
    found = results([outcome("m", 0.1, None)], (0.1,), "accuracy")
    assert found.metric is None
    assert found.front == []
    assert "| m | density 0.1 | - | - | 0 |" in found.markdown()
