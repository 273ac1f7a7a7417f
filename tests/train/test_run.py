from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aerogel import checkpoint
from aerogel.errors import CheckpointError, OutputError, TrainingError, UsageError
from aerogel.files import sha256
from aerogel.train import loop
from aerogel.train import run as run_module
from aerogel.train.gradients import Gradients
from aerogel.train.method import Step
from aerogel.train.run import TrainConfig, train


@pytest.fixture
def config(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path]
) -> Callable[..., TrainConfig]:
    """Factory of configurations of a run of 4 batches an epoch."""

    def make(out: str = "out", **values: Any) -> TrainConfig:
        settings = {
            "task": "sst2", "model": str(tiny_checkpoint(density=1.0)), "data": sentiment(), "method": "movement",
            "density": 0.25, "epochs": 3, "batch": 16, "max_length": 16, "lr": 1e-3, "threads": 1, "device": "cpu",
        }  # fmt: skip
        return TrainConfig(out=tmp_path / out, **settings | values)

    return make


def events(config: TrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in config.log_path.read_text().splitlines()]


def test_the_record_tells_how_it_was_made(config: Callable[..., TrainConfig]) -> None:
    run = config(eval_every=5)
    record = train(run).record
    assert (record.method, record.task, record.scope, record.block) == ("movement", "sst2", "local", (1, 1))
    assert record.config["lr"] == 1e-3
    assert record.data["train"] == {"rows": 64, "sha256": sha256(run.data / "train.tsv")}
    assert record.data["evaluation"] == {"rows": 16, "sha256": sha256(run.data / "dev.tsv")}
    assert set(record.versions) == {
        "python",
        "aerogel",
        "torch",
        "transformers",
        "tokenizers",
        "numpy",
    }
    assert record.metrics["accuracy"] in {n / 16 for n in range(17)}
    assert [(e["event"], e["step"]) for e in events(run)] == [
        ("start", 0), ("evaluation", 5), ("evaluation", 10), ("step", 12), ("end", 12),
    ]  # fmt: skip
    assert events(run)[-1]["accuracy"] == record.metrics["accuracy"]
    assert events(run)[-2]["density"] == 0.25
    assert not run.state_path.exists()


def test_an_evaluation_tells_the_density_that_it_was_made_at(config: Callable[..., TrainConfig]) -> None:
    run = config(method="l0", density=1.0, options={"lambda": 300.0}, score_lr=1.0, eval_every=5)
    train(run)
    first, second = (event for event in events(run) if event["event"] == "evaluation")
    # Scores fall from 2.2 by 3.5 and 5.7 at most; gates shut at -2.4.
    assert first["achieved"] == 1.0
    assert second["achieved"] < 0.5
    assert (second["lambda"], second["density"]) == (300.0, 1.0)


def test_a_method_is_called_around_each_step_and_its_state_survives(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Options:
        strength: float = 2.0

    class Shrinking(run_module.METHODS.get("magnitude")):  # type: ignore[misc]
        """Counts its own steps, pulls the weights to zero and remembers the largest gradient it saw."""

        score_lr = 0.25
        stop: int | None = None

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.steps, self.largest = 0, torch.zeros(())

        def penalty(self) -> torch.Tensor:
            return self.options.strength * sum(w.square().sum() for w in self.weights.values())

        def after_backward(self, step: Step) -> None:
            if step.index == self.stop:
                raise Stopped
            # Of the penalty alone a gradient is 2 strength w: far more than the task's.
            for weight in self.weights.values():
                assert torch.allclose(weight.grad, 2 * self.options.strength * weight, atol=1.0)
                self.largest = torch.maximum(self.largest, weight.grad.abs().max())
            assert step.progress == pytest.approx((1 - step.density) / 0.75)

        def after_step(self, step: Step, optimizer: torch.optim.Optimizer) -> dict[str, float]:
            assert (step.index, step.total) == (self.steps, 12)
            assert all("exp_avg_sq" in optimizer.state[weight] for weight in self.weights.values())
            assert step.lr == optimizer.param_groups[0]["lr"]
            self.steps += 1
            return {"steps": self.steps} if self.steps % 4 == 0 else {}

        def log_values(self) -> dict[str, float]:
            return {"largest": float(self.largest)}

        def state_dict(self) -> dict[str, Any]:
            return {"steps": self.steps, "largest": self.largest}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.steps, self.largest = state["steps"], state["largest"]

    Shrinking.Options = Options
    monkeypatch.setattr(run_module.METHODS, "get", {"shrinking": Shrinking}.__getitem__)
    runs = []
    for name in ("whole", "stopped"):
        run = config(name, method="shrinking", save_every=5, options={"strength": "3"})
        if name == "stopped":
            monkeypatch.setattr(Shrinking, "stop", 7)
            with pytest.raises(Stopped):
                train(run)
            monkeypatch.setattr(Shrinking, "stop", None)
        record = train(run).record
        assert (record.config["options"], record.config["score_lr"]) == ({"strength": 3.0}, 0.25)
        assert [(e["step"], e["steps"]) for e in events(run) if e["event"] == "method"] == [
            (4, 4),
            (8, 8),
            (12, 12),
        ]
        runs.append((record.metrics, [e["largest"] for e in events(run) if e["event"] == "step"]))
    assert runs[0] == runs[1]


def test_equal_runs_give_equal_files(config: Callable[..., TrainConfig]) -> None:
    one, two, other = (train(config(out, seed=seed)).path for out, seed in (("a", 3), ("b", 3), ("c", 4)))
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE):
        assert (one / name).read_bytes() == (two / name).read_bytes()
        assert (one / name).read_bytes() != (other / name).read_bytes()


def test_killed_by_sigkill_it_resumes_to_the_same_bytes(config: Callable[..., TrainConfig]) -> None:
    total = 160
    run = config("killed", epochs=40, save_every=5)
    command = (
        "import sys; from pathlib import Path; from aerogel.train.run import *;"
        "train(TrainConfig(**{**eval(sys.argv[1]), 'out': Path(sys.argv[2]), 'data': Path(sys.argv[3])}))"
    )
    values = {k: v for k, v in vars(run).items() if k not in ("out", "data")}
    process = subprocess.Popen([sys.executable, "-c", command, repr(values), str(run.out), str(run.data)])
    deadline = time.monotonic() + 900
    while not run.state_path.exists():
        assert process.poll() is None, "it ended before it saved its state"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not run.out.exists()
    done = torch.load(run.state_path, weights_only=True)["step"]
    assert 0 < done < total

    resumed = train(run).path
    assert not run.state_path.exists()
    whole = config("whole", epochs=40, save_every=5)
    straight = train(whole).path
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE):
        assert (resumed / name).read_bytes() == (straight / name).read_bytes()
    for log in (one := events(run), two := events(whole)):
        for event in log:
            event.pop("seconds_per_step", None)
    assert one == two


def test_a_resumed_run_does_only_what_is_left(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(save_every=5)
    stop_at(7, monkeypatch)
    with pytest.raises(Stopped):
        train(run)
    seen = stop_at(99, monkeypatch)
    train(run)
    assert seen == list(range(5, 12))


class Stopped(Exception):  # noqa: N818  # nothing went wrong
    """Stands in for whatever ends a run early."""


def stop_at(last: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt training at step `last`; the steps begun are put into the list."""
    monkeypatch.undo()
    seen: list[int] = []
    density = loop.Cubic.density

    def spy(schedule: loop.Cubic, step: int) -> float:
        seen.append(step)
        if step == last:
            raise Stopped
        return density(schedule, step)

    monkeypatch.setattr(loop.Cubic, "density", spy)
    return seen


def test_another_configuration_is_not_resumed_but_restart_begins_anew(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(7, monkeypatch)
    with pytest.raises(Stopped):
        train(config(save_every=5))
    seen = stop_at(99, monkeypatch)
    with pytest.raises(
        UsageError, match=r"out.state.pt is the state of a run with lr 0.001, not 0.002; .*--restart"
    ):
        train(config(lr=2e-3))
    same = config()
    (same.data / "dev.tsv").write_text("sentence\tlabel\ngood\t1\n")
    with pytest.raises(UsageError, match="data evaluation"):
        train(same)
    assert not seen
    train(config(lr=2e-3, restart=True))
    assert seen == list(range(12))


def poison_gradients(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a gradient of step `step` NaN."""
    compute = Gradients.compute

    def poisoned(gradients: Gradients, batch: Any, at: int) -> torch.Tensor:
        loss = compute(gradients, batch, at)
        if at == step:
            gradients.parameters[3].grad.view(-1)[0] = float("nan")
        return loss

    monkeypatch.setattr(Gradients, "compute", poisoned)


def test_a_loss_that_is_not_finite_stops_the_run(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_gradients(4, monkeypatch)
    run = config()
    with pytest.raises(TrainingError, match=r"the gradient is nan at step 4; lower --lr"):
        train(run)
    assert not run.out.exists()

    monkeypatch.undo()
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d"):
        train(config(lr=1e30, clip=1e30))


def test_to_begin_anew_is_advised_only_where_there_is_a_state(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_gradients(0, monkeypatch)
    with pytest.raises(TrainingError, match=r"at step 0; lower --lr or --score-lr$"):
        train(config("none"))
    monkeypatch.undo()
    run = config(save_every=5)
    stop_at(7, monkeypatch)
    with pytest.raises(Stopped):
        train(run)
    monkeypatch.undo()
    poison_gradients(5, monkeypatch)
    with pytest.raises(TrainingError, match=r"at step 5; lower --lr or --score-lr and .* --restart$"):
        train(run)


def test_what_the_last_step_breaks_is_not_written(config: Callable[..., TrainConfig]) -> None:
    dense = {"method": "dense", "density": 1.0, "epochs": 1, "train_rows": 16}
    before = train(config(**dense)).path
    content = (before / "model.safetensors").read_bytes()
    log = config().log_path.read_text()
    with pytest.raises(TrainingError, match=r"finite.*; lower --lr"):
        train(config(**dense, lr=1e30))
    assert (before / "model.safetensors").read_bytes() == content
    # The log of the checkpoint that stands is kept, through further failures too, until another takes its place.
    with pytest.raises(TrainingError):
        train(config(**dense, lr=1e30))
    old = config().log_path.with_name("out.log.jsonl.old")
    assert old.read_text() == log
    train(config(**dense))
    assert not old.exists()


def test_weights_that_the_last_step_broke_are_named(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    bake = run_module.Method.bake

    def poison(method: Any) -> Any:
        masks = bake(method)
        next(iter(method.matrices.values())).bias.data[0] = float("inf")
        return masks

    monkeypatch.setattr(run_module.Method, "bake", poison)
    with pytest.raises(TrainingError, match=r"layer.0.*bias is not finite after the last step"):
        train(config())
    assert not config().out.exists()


def test_a_log_lost_between_two_runs_begins_with_its_start(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(save_every=5)
    stop_at(7, monkeypatch)
    with pytest.raises(Stopped):
        train(run)
    run.log_path.unlink()
    stop_at(99, monkeypatch)
    train(run)
    assert [e["event"] for e in events(run)] == ["start", "step", "end"]


def test_a_file_that_is_no_log_is_refused_before_training(
    config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("notes\n")
    monkeypatch.setattr(run_module, "load_model", lambda *_: pytest.fail("it began"))
    with pytest.raises(UsageError, match=r"notes.txt exists and is not the log of a run"):
        train(config(log=tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "notes\n"


@pytest.mark.parametrize(("method", "frozen"), [("movement", True), ("dense", False)])
def test_embeddings_are_frozen_when_a_given_model_is_pruned(
    config: Callable[..., TrainConfig], method: str, frozen: bool
) -> None:
    run = config(method=method, density=0.25 if frozen else 1.0, epochs=1, final_warmup=1.0)
    before = load_file(Path(run.model) / "model.safetensors")
    after = load_file(train(run).path / "model.safetensors")
    same = {name for name in before if torch.equal(before[name], after[name])}
    embeddings = {name for name in before if name.startswith("bert.embeddings.")}
    assert len(embeddings) == 5
    # Word rows that no text uses get no gradient either, so equality is asked of the whole table only.
    assert same == (embeddings if frozen else set())


def test_half_precision_models_are_trained_in_single(
    config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = config()
    half = tmp_path / "half"
    AutoModelForSequenceClassification.from_pretrained(run.model).half().save_pretrained(half)
    AutoTokenizer.from_pretrained(run.model).save_pretrained(half)
    written = train(config(model=str(half), epochs=1, final_warmup=1.0)).path
    assert {tensor.dtype for tensor in load_file(written / "model.safetensors").values()} == {torch.float32}


def test_evaluation_rows_are_the_same_in_every_run(config: Callable[..., TrainConfig]) -> None:
    task, (first, other) = (
        run_module.TASKS.get("sst2"),
        (config(eval_rows=5, seed=seed, epochs=1) for seed in (0, 1)),
    )
    rows = [run_module._subset(task.load(run.data), run).evaluation[""].texts for run in (first, other)]
    assert rows[0] == rows[1]
    assert len(set(rows[0])) == 5
    record = train(first).record
    assert record.data["evaluation"]["rows"] == record.config["eval_rows"] == 5
    assert record.metrics["accuracy"] in {n / 5 for n in range(6)}


def test_rows_left_out_are_recorded(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    folder = tmp_path / "qqp"
    folder.mkdir()
    for name in ("train", "dev"):
        rows = [f"film {n}\tgood {n}\t{n % 2}" for n in range(8)]
        lines = ["question1\tquestion2\tis_duplicate", *rows, "broken"]
        (folder / f"{name}.tsv").write_text("\n".join(lines))
    record = train(config(task="qqp", data=folder, method="dense", density=1.0, epochs=1)).record
    assert record.data["train"] == {"rows": 8, "left_out": 1, "sha256": sha256(folder / "train.tsv")}


def test_a_subset_of_rows_is_drawn_with_the_seed(config: Callable[..., TrainConfig]) -> None:
    record = train(config(train_rows=20, epochs=8)).record
    assert record.data["train"]["rows"] == 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "movment"}, r"unknown method 'movment'; known: .*; did you mean movement\?"),
        ({"task": "sst"}, r"unknown task 'sst'; known: .*sst2"),
        ({"block": (5, 1)}, r"block 5x1 does not divide bert.encoder.layer.0.* of shape 32x32"),
        ({"warmup": 4.0}, r"4 warm-up steps x \(1 initial \+ 2 final\) reach the 12 steps"),
        ({"warmup": 12.0}, r"--warmup 12 reaches the 12 steps"),
        ({"max_length": 65}, r"--max-length 65: .* takes at most 64 tokens"),
        ({"model": "/nowhere/at/all"}, r"--model /nowhere/at/all is not a directory"),
        ({"model": None}, r"--model is missing"),
        ({"method": "soft-movement"}, r"--density 0.25 cannot be reached: .*; raise --score-lr \d+ times"),
        ({"density": 0.1, "block": (32, 32)}, r"--density 0.1 leaves none of the 1 32x32 blocks of bert"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    config: Callable[..., TrainConfig], values: dict[str, Any], message: str
) -> None:
    run = config(**values)
    with pytest.raises(UsageError, match=message):
        train(run)
    assert sorted(path.name for path in run.out.parent.iterdir()) == ["sentiment"]


def test_an_output_in_the_way_is_refused_before_training(config: Callable[..., TrainConfig]) -> None:
    run = config()
    run.out.mkdir()
    (run.out / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="exists and is not an Aerogel checkpoint"):
        train(run)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"out": "sentiment/dev.tsv"}, r"dev.tsv is a file"),
        ({"out": "sentiment/dev.tsv/out"}, r"cannot be written"),
        ({"log": Path("/dev/null/log")}, r"/dev/null/log cannot be written"),
        ({"log": Path("/dev")}, r"/dev is a folder"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_training(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(run_module, "load_model", lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError, match=message):
        train(config(**values))


def test_a_run_is_not_resumed_with_another_model_or_other_libraries(
    config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = run_module._versions()
    own = Path(shutil.copytree(config().model, tmp_path / "own"))
    run = config(model=str(own), save_every=5)
    stop_at(7, monkeypatch)
    with pytest.raises(Stopped):
        train(run)
    stop_at(99, monkeypatch)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        content = (own / name).read_bytes()
        # Neither the JSON nor the header minds a blank at its end, but it is another file.
        (own / name).write_bytes(content + b" ")
        with pytest.raises(UsageError, match=rf"state of a run with model {name} '.*', not .*--restart"):
            train(run)
        (own / name).write_bytes(content)
    monkeypatch.setattr(run_module, "_versions", lambda: versions | {"numpy": "0"})
    with pytest.raises(UsageError, match=r"with version numpy '.*', not '0'"):
        train(run)
    monkeypatch.setattr(run_module, "_versions", lambda: versions)
    train(run)


def test_a_state_file_that_is_no_state_is_refused(config: Callable[..., TrainConfig]) -> None:
    run = config()
    run.state_path.write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="pass --restart"):
        train(run)
    assert not run.out.exists()


def test_survivors_are_fine_tuned_with_the_masks_fixed_and_a_schedule_of_their_own(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = train(config("short"))
    run = config("long", final_epochs=2, save_every=3)
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(optimizer: Any, *args: Any) -> Any:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    long = train(run)
    monkeypatch.undo()
    assert short.masks.keys() == long.masks.keys()
    assert all((short.masks[name] == long.masks[name]).all() for name in short.masks)
    before, after = (load_file(path.path / "model.safetensors") for path in (short, long))
    for name, mask in long.masks.items():
        kept = torch.from_numpy(mask)
        assert not after[name][~kept].any()
        assert (after[name][kept] != before[name][kept]).float().mean() > 0.9
    # 12 steps of warm-up 1, then 8 whose tenth rounds to none: each begins and falls to nothing by itself.
    assert rates[:12] == pytest.approx([1e-3 * (t / 1 if t < 1 else (12 - t) / 11) for t in range(12)])
    assert rates[12:] == pytest.approx([1e-3 * (8 - t) / 8 for t in range(8)])
    assert [(e["event"], e["step"]) for e in events(run)] == [
        ("start", 0), ("step", 12), ("fixed", 12), ("step", 20), ("end", 20),
    ]  # fmt: skip

    for last in (4, 10, 13, 17):
        stopped = config(f"stopped{last}", final_epochs=2, save_every=3)
        compute = Gradients.compute

        def stop(gradients: Gradients, batch: Any, at: int, last: int = last) -> Any:
            if at == last:
                raise Stopped
            return compute(gradients, batch, at)  # noqa: B023  # it is undone before the next

        monkeypatch.setattr(Gradients, "compute", stop)
        with pytest.raises(Stopped):
            train(stopped)
        monkeypatch.undo()
        assert (train(stopped).path / "model.safetensors").read_bytes() == (
            long.path / "model.safetensors"
        ).read_bytes()


def test_a_method_without_masks_has_no_survivors(config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(UsageError, match="--final-epochs: method dense finds no masks to fix"):
        train(config(method="dense", density=1.0, final_epochs=1))
