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


def find(report: Report, backend: str, model: str = "model.onnx") -> Run:
    return next(run for run in report.runs if run.backend == backend and run.model.name == model)


def test_non_finite_reference_outputs_are_reported(fake_backends: Fakes, token_model: Models) -> None:
    nothing = "def outputs(self, ids):\n    return [ids * np.nan]"
    report = bench(
        [token_model("model.onnx")], QUICK, registry=fake_backends(onnxruntime=nothing, same=nothing)
    )
    assert any("model.onnx: the outputs contain NaN or infinity" in text for text in report.warnings)
    assert not any("differs from" in text for text in report.warnings)
    same = find(report, "same")
    assert not same.correct
    assert same.speedup is None


def test_sequence_longer_than_the_model_allows_is_refused_before_loading(
    fake_backends: Fakes, token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "Worker", lambda *_, **__: pytest.fail("opened"))
    (tmp_path / "model.manifest.json").write_text('{"max_length": 3}')
    with pytest.raises(UsageError, match="give --seq 3 or less, not 4"):
        bench([token_model("model.onnx")], QUICK, registry=fake_backends())


def test_speed_up_of_a_backend_four_times_as_fast(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(onnxruntime="seconds = {'default': 0.04}", quick="seconds = {'default': 0.01}")
    report = bench([token_model("model.onnx")], QUICK, registry=fakes)
    quick, stock = find(report, "quick"), find(report, "onnxruntime")
    assert report.baseline is stock
    assert stock.speedup is not None
    assert stock.speedup.median == 1
    assert quick.speedup is not None
    assert quick.speedup.median == pytest.approx(4)
    assert quick.latency.median == pytest.approx(10)
    assert len(quick.latency.round_medians) == 3
    assert quick.relative_error == 0
    assert quick.correct


def test_wrong_outputs_have_no_speed_up(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(
        wrong=f"def outputs(self, ids):\n    return [ids * (1 + 2 * {TOLERANCES['fp32']!r})]"
    )
    report = bench([token_model("model.onnx")], QUICK, registry=fakes)
    wrong = find(report, "wrong")
    assert wrong.relative_error == pytest.approx(2 * TOLERANCES["fp32"], rel=0.01)
    assert not wrong.correct
    assert wrong.speedup is None
    assert any("model.onnx on wrong differs from" in text for text in report.warnings)
    assert find(report, "onnxruntime").correct


def test_rounding_is_accepted(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(
        near=f"def outputs(self, ids):\n    return [ids * (1 + {TOLERANCES['fp32']!r} / 2)]"
    )
    assert find(bench([token_model("model.onnx")], QUICK, registry=fakes), "near").correct


def test_the_fastest_variant_is_measured(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(onnxruntime="variants = ('slow', 'fast')\nseconds = {'slow': 0.02, 'fast': 0.005}")
    run = bench([token_model("model.onnx")], QUICK, registry=fakes).runs[0]
    assert run.variant == "fast"
    assert run.variant_ms["slow"] == pytest.approx(20)
    assert run.variant_ms["fast"] == pytest.approx(5)
    assert run.latency.median == pytest.approx(5)


def test_refusals_are_reported_with_their_reason(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(picky="def refuse(self, model):\n    return 'not today'")
    report = bench([token_model("model.onnx")], QUICK, registry=fakes)
    assert [run.backend for run in report.runs] == ["onnxruntime"]
    assert [(item.backend, item.reason) for item in report.skipped] == [("picky", "not today")]


def test_the_baseline_is_the_first_dense_model(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends()
    sparse, dense = token_model("sparse.onnx", sparse=True), token_model("dense.onnx")
    assert bench([sparse, dense], QUICK, registry=fakes).baseline.model == dense
    assert bench([sparse], QUICK, registry=fakes).baseline.model == sparse
    named = bench([dense], QUICK, sparse, registry=fakes)
    assert named.baseline.model == sparse
    assert len(named.runs) == 2


def test_a_model_named_twice_is_measured_once(fake_backends: Fakes, token_model: Models) -> None:
    path = token_model("model.onnx")
    twin = path.parent / "." / path.name
    assert len(bench([path, twin], QUICK, path, registry=fake_backends()).runs) == 1


def test_a_backend_that_dies_is_an_error(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(
        killer="def outputs(self, ids):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(
        RuntimeLoadError, match=r"model\.onnx: the process that measures it was killed by SIGKILL"
    ):
        bench([token_model("model.onnx")], QUICK, registry=fakes)


@pytest.mark.parametrize("name", ["threads", "batch", "seq", "rounds", "repeats"])
def test_settings_out_of_range_name_the_flag(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} 0"):
        Settings(**{name: 0})


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="--seed -1"):
        Settings(seed=-1)


def test_warnings_about_the_machine(
    fake_backends: Fakes, token_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes, model = fake_backends(starved="utilization = 0.8"), token_model("model.onnx")
    monkeypatch.setattr(harness, "cores", lambda: 2)
    monkeypatch.setattr(harness, "load_average", lambda: 0.3)
    assert [text.partition(":")[0] for text in bench([model], QUICK, registry=fakes).warnings] == [
        "model.onnx on starved had only 80% of its core"
    ]
    monkeypatch.setattr(harness, "load_average", lambda: 2.4)
    assert any(
        "load average was 2.4 on 2 cores" in text for text in bench([model], QUICK, registry=fakes).warnings
    )
    crowded = bench([model], replace(QUICK, threads=3), registry=fakes)
    assert any("3 threads share 2 cores" in text for text in crowded.warnings)


def test_many_disturbed_rows_are_one_warning(
    fake_backends: Fakes, token_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "load_average", lambda: None)
    fakes = fake_backends(a="utilization = 0.7", b="utilization = 0.6", c="utilization = 0.9")
    (warning,) = bench([token_model("model.onnx")], QUICK, registry=fakes).warnings
    assert warning.startswith("model.onnx on b had only 60% of its core, and 2 more less than 95%")


THIRD_PARTY = "third_party = True\n"


def test_third_party_backends_are_measured_only_if_named(fake_backends: Fakes, token_model: Models) -> None:
    fakes, model = fake_backends(other=THIRD_PARTY, third=THIRD_PARTY), token_model("model.onnx")
    assert [run.backend for run in bench([model], QUICK, registry=fakes).runs] == ["onnxruntime"]
    named = bench([model], QUICK, third_party=["third"], registry=fakes)
    assert [run.backend for run in named.runs] == ["onnxruntime", "third"]
    with pytest.raises(UsageError, match="unknown backend 'fourth'; known: onnxruntime, other, third"):
        bench([model], QUICK, third_party=["fourth"], registry=fakes)


def test_a_third_party_backend_that_fails_is_skipped_with_its_reason(
    fake_backends: Fakes, token_model: Models
) -> None:
    broken = (
        "def open(self, path, threads, variant, batch, seq):\n"
        "    from aerogel.errors import RuntimeLoadError\n"
        "    raise RuntimeLoadError('no such operator')"
    )
    fakes = fake_backends(other=THIRD_PARTY + broken)
    report = bench([token_model("model.onnx")], QUICK, third_party=["other"], registry=fakes)
    assert [run.backend for run in report.runs] == ["onnxruntime"]
    assert [(item.backend, item.reason) for item in report.skipped] == [("other", "no such operator")]


def test_converted_files_are_loaded_and_reused(
    fake_backends: Fakes, token_model: Models, tmp_path: Path
) -> None:
    converting = (
        "def prepare(self, model, variant, folder, batch, seq):\n"
        "    out = folder / f'{variant}-{batch}x{seq}.onnx'\n"
        "    if not out.exists():\n"
        "        folder.mkdir(parents=True, exist_ok=True)\n"
        "        out.write_bytes(model.read_bytes())\n"
        "    return out\n"
        "def open(self, path, threads, variant, batch, seq):\n"
        "    runner = super().open(path, threads, variant, batch, seq)\n"
        "    runner.details = path.name\n"
        "    return runner"
    )
    fakes, model, work = (
        fake_backends(other=THIRD_PARTY + converting),
        token_model("model.onnx"),
        tmp_path / "work",
    )
    for _ in range(2):
        report = bench([model], QUICK, third_party=["other"], registry=fakes, work=work)
        assert find(report, "other").details == "default-1x4.onnx"
        assert find(report, "other").size == model.stat().st_size
    (first,) = work.rglob("*.onnx")
    os.utime(model, (1, 1))
    bench([model], QUICK, third_party=["other"], registry=fakes, work=work)
    assert len([file for file in work.rglob("*.onnx") if file != first]) == 1


def test_each_precision_has_its_tolerance(fake_backends: Fakes, token_model: Models) -> None:
    off = "def outputs(self, ids):\n    return [ids * 1.1]"
    int8 = f"{THIRD_PARTY}def precision(self, model):\n    return Precision(True, 'int8')\n{off}"
    fakes = fake_backends(coarse=int8, exact=THIRD_PARTY + off)
    report = bench([token_model("model.onnx")], QUICK, third_party=["coarse", "exact"], registry=fakes)
    coarse, exact = find(report, "coarse"), find(report, "exact")
    assert (str(coarse.precision), coarse.correct) == ("sparse int8", True)
    assert (str(exact.precision), exact.correct, exact.speedup) == ("dense fp32", False, None)
    assert coarse.relative_error == exact.relative_error == pytest.approx(0.1)


def test_outputs_are_compared_with_the_reference_of_the_job(
    fake_backends: Fakes, token_model: Models
) -> None:
    """The reference is loaded for its outputs only; the fake adds the length of the file's name."""
    named = (
        "def open(self, path, threads, variant, batch, seq):\n"
        "    runner = super().open(path, threads, variant, batch, seq)\n"
        "    runner.outputs = lambda ids: [ids + len(path.name)]\n"
        "    return runner"
    )
    fakes = fake_backends(onnxruntime=named, other=named)
    dense, near, far = (scan(token_model(name)) for name in ("dense.onnx", "naked.onnx", "far.onnx"))
    jobs = [
        Job(dense, "onnxruntime", "the dense one", dense),
        Job(near, "other", "near", dense),
        Job(far, "other", "far", near),
    ]
    report = measure(jobs, QUICK, jobs[0], registry=fakes)
    assert [run.label for run in report.runs] == ["the dense one", "near", "far"]
    assert [run.correct for run in report.runs] == [True, True, False]
    assert report.runs[1].relative_error == 0
    assert report.runs[2].reference.name == "naked.onnx"


def test_padding_is_masked_and_not_compared(fake_backends: Fakes, token_model: Models) -> None:
    garbage = "def outputs(self, ids):\n    ids[1, 2:] = 1e6\n    return [ids]"
    fakes = fake_backends(other=garbage)
    uneven = replace(QUICK, batch=2, lengths=(4, 2))
    assert find(bench([token_model("model.onnx")], uneven, registry=fakes), "other").relative_error == 0
    even = replace(QUICK, batch=2)
    assert not find(bench([token_model("model.onnx")], even, registry=fakes), "other").correct


@pytest.mark.parametrize("lengths", [(5,), (4, 3), (5, 6), (5, 0)])
def test_lengths_that_do_not_fit_the_batch_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="--lengths: must be 2 integers from 1 to 5"):
        Settings(batch=2, seq=5, lengths=lengths)
