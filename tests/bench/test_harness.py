from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aerogel.bench import harness
from aerogel.bench.candidate import Candidate
from aerogel.bench.harness import alternate, bench, difference
from aerogel.bench.result import TOLERANCE, Report, Run, Settings
from aerogel.errors import RuntimeLoadError, UsageError
from aerogel.registry import Registry

Fakes = Callable[..., Registry[Candidate]]
Models = Callable[..., Path]

QUICK = Settings(seq=4, rounds=3, repeats=2)


class Recorder:
    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self.name, self.log = name, log

    def run(self, iterations: int) -> tuple[list[float], float]:
        self.log.append((self.name, iterations))
        return [float(len(self.log))] * iterations, 1.0


def find(report: Report, candidate: str, model: str = "model.onnx") -> Run:
    return next(run for run in report.runs if run.candidate == candidate and run.model.name == model)


def test_rounds_alternate_forwards_and_backwards() -> None:
    log: list[tuple[str, int]] = []
    steps: list[tuple[str, int, int]] = []
    timed = alternate([Recorder(name, log) for name in "ABC"], 3, 5, lambda *step: steps.append(step))
    assert "".join(name for name, _ in log) == "ABCCBAABC"
    assert {iterations for _, iterations in log} == {5}
    # The number of the turn is the fake's time, so each time must have come back to whom it belongs.
    assert [[times[0] for times, _ in rounds] for rounds in timed] == [[1, 6, 7], [2, 5, 8], [3, 4, 9]]
    assert steps == [("measuring", n, 3) for n in (1, 2, 3)]


def test_difference_is_relative_to_each_outputs_largest_value() -> None:
    expected = [np.array([1.0, -2.0]), np.array([100.0, 0.0])]
    outputs = [np.array([1.0, -2.001]), np.array([100.01, 0.0])]
    assert difference(outputs, expected) == pytest.approx(0.0005)
    assert difference(expected, expected) == 0
    assert difference([np.zeros(2)], [np.zeros(2)]) == 0


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([np.array([np.nan])], [np.array([1.0])]),
        ([np.array([np.inf])], [np.array([1.0])]),
        ([np.ones((2, 1))], [np.ones((1, 2))]),
        ([np.ones(1)], [np.ones(1), np.ones(1)]),
        ([np.ones(1)], [np.zeros(1)]),
    ],
)
def test_what_cannot_be_compared_is_infinitely_wrong(
    outputs: list[np.ndarray], expected: list[np.ndarray]
) -> None:
    assert difference(outputs, expected) == math.inf


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_can_be_compared_with_what_is_not_finite(value: float) -> None:
    assert math.isnan(difference([np.array([value])], [np.array([value])]))


def test_models_whose_own_outputs_are_not_finite_are_said_to_be_so(
    fake_candidates: Fakes, token_model: Models
) -> None:
    nothing = "def outputs(self, ids):\n    return [ids * np.nan]"
    report = bench(
        [token_model("model.onnx")], QUICK, candidates=fake_candidates(onnxruntime=nothing, same=nothing)
    )
    assert any("model.onnx: the model's own outputs are not finite" in text for text in report.warnings)
    assert not any("other outputs" in text for text in report.warnings)
    same = find(report, "same")
    assert not same.correct
    assert same.speedup is None


def test_a_sequence_longer_than_the_model_takes_is_refused_before_opening(
    fake_candidates: Fakes, token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "Worker", lambda *_, **__: pytest.fail("opened"))
    (tmp_path / "model.manifest.json").write_text('{"max_length": 3}')
    with pytest.raises(UsageError, match="give --seq 3 or less, not 4"):
        bench([token_model("model.onnx")], QUICK, candidates=fake_candidates())


def test_speed_up_of_a_candidate_four_times_as_fast(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates(onnxruntime="seconds = {'default': 0.04}", quick="seconds = {'default': 0.01}")
    report = bench([token_model("model.onnx")], QUICK, candidates=fakes)
    quick, stock = find(report, "quick"), find(report, "onnxruntime")
    assert report.baseline is stock
    assert stock.speedup is not None
    assert stock.speedup.median == 1
    assert quick.speedup is not None
    assert quick.speedup.median == pytest.approx(4)
    assert quick.latency.median == pytest.approx(10)
    assert len(quick.latency.round_medians) == 3
    assert quick.difference == 0
    assert quick.correct


def test_wrong_outputs_have_no_speed_up(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates(wrong=f"def outputs(self, ids):\n    return [ids * (1 + 2 * {TOLERANCE!r})]")
    report = bench([token_model("model.onnx")], QUICK, candidates=fakes)
    wrong = find(report, "wrong")
    assert wrong.difference == pytest.approx(2 * TOLERANCE, rel=0.01)
    assert not wrong.correct
    assert wrong.speedup is None
    assert any("model.onnx on wrong gives other outputs" in text for text in report.warnings)
    assert find(report, "onnxruntime").correct


def test_rounding_is_accepted(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates(near=f"def outputs(self, ids):\n    return [ids * (1 + {TOLERANCE!r} / 2)]")
    assert find(bench([token_model("model.onnx")], QUICK, candidates=fakes), "near").correct


def test_the_fastest_setting_is_measured(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates(
        onnxruntime="settings = ('slow', 'fast')\nseconds = {'slow': 0.02, 'fast': 0.005}"
    )
    run = bench([token_model("model.onnx")], QUICK, candidates=fakes).runs[0]
    assert run.setting == "fast"
    assert run.tried["slow"] == pytest.approx(20)
    assert run.tried["fast"] == pytest.approx(5)
    assert run.latency.median == pytest.approx(5)


def test_refusals_are_reported_with_their_reason(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates(picky="def refuse(self, model):\n    return 'not today'")
    report = bench([token_model("model.onnx")], QUICK, candidates=fakes)
    assert [run.candidate for run in report.runs] == ["onnxruntime"]
    assert [(item.candidate, item.reason) for item in report.skipped] == [("picky", "not today")]


def test_the_baseline_is_the_first_dense_model(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates()
    sparse, dense = token_model("sparse.onnx", sparse=True), token_model("dense.onnx")
    assert bench([sparse, dense], QUICK, candidates=fakes).baseline.model == dense
    assert bench([sparse], QUICK, candidates=fakes).baseline.model == sparse
    named = bench([dense], QUICK, sparse, candidates=fakes)
    assert named.baseline.model == sparse
    assert len(named.runs) == 2


def test_a_model_named_twice_is_measured_once(fake_candidates: Fakes, token_model: Models) -> None:
    path = token_model("model.onnx")
    twin = path.parent / "." / path.name
    assert len(bench([path, twin], QUICK, path, candidates=fake_candidates()).runs) == 1


def test_a_candidate_that_dies_is_an_error(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates(
        killer="def outputs(self, ids):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(
        RuntimeLoadError, match=r"model\.onnx: the process that measures it was killed by SIGKILL"
    ):
        bench([token_model("model.onnx")], QUICK, candidates=fakes)


def test_repeats_fill_half_a_second_of_the_slowest() -> None:
    class Fixed:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def run(self, iterations: int) -> tuple[list[float], float]:
            return [self.seconds] * iterations, 1.0

    assert harness._repeats([Fixed(0.01), Fixed(0.1)]) == 5
    assert harness._repeats([Fixed(10.0)]) == 3
    assert harness._repeats([Fixed(1e-6)]) == 200


@pytest.mark.parametrize("name", ["threads", "batch", "seq", "rounds", "repeats"])
def test_settings_out_of_range_name_the_flag(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} 0 is out of range; give a"):
        Settings(**{name: 0})


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="--seed -1"):
        Settings(seed=-1)


def test_warnings_about_the_machine(
    fake_candidates: Fakes, token_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes, model = fake_candidates(starved="share = 0.8"), token_model("model.onnx")
    monkeypatch.setattr(harness, "cores", lambda: 2)
    monkeypatch.setattr(harness, "load_average", lambda: 0.3)
    assert [text.partition(":")[0] for text in bench([model], QUICK, candidates=fakes).warnings] == [
        "model.onnx on starved had only 80% of its core"
    ]
    monkeypatch.setattr(harness, "load_average", lambda: 2.4)
    assert any(
        "load average was 2.4 on 2 cores" in text for text in bench([model], QUICK, candidates=fakes).warnings
    )
    crowded = bench([model], replace(QUICK, threads=3), candidates=fakes)
    assert any("3 threads share 2 cores" in text for text in crowded.warnings)
