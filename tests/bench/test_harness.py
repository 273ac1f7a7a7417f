from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aerogel.bench import harness, setup
from aerogel.bench.backend import Backend
from aerogel.bench.harness import bench, measure
from aerogel.bench.jobs import Job
from aerogel.bench.model import scan
from aerogel.bench.precision import TOLERANCES
from aerogel.bench.result import Report, Run, Settings
from aerogel.errors import RuntimeLoadError, UsageError
from aerogel.registry import Registry

Fakes = Callable[..., Registry[Backend]]
Models = Callable[..., Path]

QUICK = Settings(seq=4, rounds=3, repeats=2)


def find(report: Report, candidate: str, model: str = "model.onnx") -> Run:
    return next(run for run in report.runs if run.candidate == candidate and run.model.name == model)


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
    monkeypatch.setattr(setup, "Worker", lambda *_, **__: pytest.fail("opened"))
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
    fakes = fake_candidates(
        wrong=f"def outputs(self, ids):\n    return [ids * (1 + 2 * {TOLERANCES['fp32']!r})]"
    )
    report = bench([token_model("model.onnx")], QUICK, candidates=fakes)
    wrong = find(report, "wrong")
    assert wrong.difference == pytest.approx(2 * TOLERANCES["fp32"], rel=0.01)
    assert not wrong.correct
    assert wrong.speedup is None
    assert any("model.onnx on wrong gives other outputs" in text for text in report.warnings)
    assert find(report, "onnxruntime").correct


def test_rounding_is_accepted(fake_candidates: Fakes, token_model: Models) -> None:
    fakes = fake_candidates(
        near=f"def outputs(self, ids):\n    return [ids * (1 + {TOLERANCES['fp32']!r} / 2)]"
    )
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


def test_many_disturbed_rows_are_one_warning(
    fake_candidates: Fakes, token_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "load_average", lambda: None)
    fakes = fake_candidates(a="share = 0.7", b="share = 0.6", c="share = 0.9")
    (warning,) = bench([token_model("model.onnx")], QUICK, candidates=fakes).warnings
    assert warning.startswith("model.onnx on b had only 60% of its core and 2 more less than 95%")


RIVAL = "rival = True\n"


def test_rivals_are_measured_where_they_are_named(fake_candidates: Fakes, token_model: Models) -> None:
    fakes, model = fake_candidates(other=RIVAL, third=RIVAL), token_model("model.onnx")
    assert [run.candidate for run in bench([model], QUICK, candidates=fakes).runs] == ["onnxruntime"]
    named = bench([model], QUICK, rivals=["third"], candidates=fakes)
    assert [run.candidate for run in named.runs] == ["onnxruntime", "third"]
    with pytest.raises(UsageError, match="unknown candidate 'fourth'; known: onnxruntime, other, third"):
        bench([model], QUICK, rivals=["fourth"], candidates=fakes)


def test_a_rival_that_fails_is_left_out_with_its_reason(fake_candidates: Fakes, token_model: Models) -> None:
    broken = (
        "def open(self, path, threads, setting, batch, seq):\n"
        "    from aerogel.errors import RuntimeLoadError\n"
        "    raise RuntimeLoadError('no such operator')"
    )
    fakes = fake_candidates(other=RIVAL + broken)
    report = bench([token_model("model.onnx")], QUICK, rivals=["other"], candidates=fakes)
    assert [run.candidate for run in report.runs] == ["onnxruntime"]
    assert [(item.candidate, item.reason) for item in report.skipped] == [("other", "no such operator")]


def test_what_is_converted_is_opened_and_found_again(
    fake_candidates: Fakes, token_model: Models, tmp_path: Path
) -> None:
    converting = (
        "def prepare(self, model, setting, folder, batch, seq):\n"
        "    out = folder / f'{setting}-{batch}x{seq}.onnx'\n"
        "    if not out.exists():\n"
        "        folder.mkdir(parents=True, exist_ok=True)\n"
        "        out.write_bytes(model.read_bytes())\n"
        "    return out\n"
        "def open(self, path, threads, setting, batch, seq):\n"
        "    runner = super().open(path, threads, setting, batch, seq)\n"
        "    runner.details = path.name\n"
        "    return runner"
    )
    fakes, model, work = (
        fake_candidates(other=RIVAL + converting),
        token_model("model.onnx"),
        tmp_path / "work",
    )
    for _ in range(2):
        report = bench([model], QUICK, rivals=["other"], candidates=fakes, work=work)
        assert find(report, "other").details == "default-1x4.onnx"
        assert find(report, "other").size == model.stat().st_size
    (first,) = work.rglob("*.onnx")
    os.utime(model, (1, 1))
    bench([model], QUICK, rivals=["other"], candidates=fakes, work=work)
    assert len([file for file in work.rglob("*.onnx") if file != first]) == 1


def test_each_kind_has_its_tolerance(fake_candidates: Fakes, token_model: Models) -> None:
    off = "def outputs(self, ids):\n    return [ids * 1.1]"
    int8 = f"{RIVAL}def kind(self, model):\n    return Kind(True, 'int8')\n{off}"
    fakes = fake_candidates(coarse=int8, exact=RIVAL + off)
    report = bench([token_model("model.onnx")], QUICK, rivals=["coarse", "exact"], candidates=fakes)
    coarse, exact = find(report, "coarse"), find(report, "exact")
    assert (str(coarse.kind), coarse.correct) == ("sparse int8", True)
    assert (str(exact.kind), exact.correct, exact.speedup) == ("dense fp32", False, None)
    assert coarse.difference == exact.difference == pytest.approx(0.1)


def test_outputs_are_compared_with_the_reference_that_a_pair_names(
    fake_candidates: Fakes, token_model: Models
) -> None:
    """The reference is opened for its outputs only; the fake multiplies by the length of the file's name."""
    named = (
        "def open(self, path, threads, setting, batch, seq):\n"
        "    runner = super().open(path, threads, setting, batch, seq)\n"
        "    runner.outputs = lambda ids: [ids + len(path.name)]\n"
        "    return runner"
    )
    fakes = fake_candidates(onnxruntime=named, other=named)
    dense, near, far = (scan(token_model(name)) for name in ("dense.onnx", "naked.onnx", "far.onnx"))
    pairs = [
        Job(dense, "onnxruntime", "the dense one", dense),
        Job(near, "other", "near", dense),
        Job(far, "other", "far", near),
    ]
    report = measure(pairs, QUICK, pairs[0], candidates=fakes)
    assert [run.label for run in report.runs] == ["the dense one", "near", "far"]
    assert [run.correct for run in report.runs] == [True, True, False]
    assert report.runs[1].difference == 0
    assert report.runs[2].reference.name == "naked.onnx"


def test_padding_is_masked_and_not_compared(fake_candidates: Fakes, token_model: Models) -> None:
    garbage = "def outputs(self, ids):\n    ids[1, 2:] = 1e6\n    return [ids]"
    fakes = fake_candidates(other=garbage)
    uneven = replace(QUICK, batch=2, lengths=(4, 2))
    assert find(bench([token_model("model.onnx")], uneven, candidates=fakes), "other").difference == 0
    even = replace(QUICK, batch=2)
    assert not find(bench([token_model("model.onnx")], even, candidates=fakes), "other").correct


@pytest.mark.parametrize("lengths", [(5,), (4, 3), (5, 6), (5, 0)])
def test_lengths_that_are_not_the_batchs_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="--lengths do not fit: 2 lengths from 1 to 5"):
        Settings(batch=2, seq=5, lengths=lengths)
