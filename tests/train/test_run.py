from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aerogel import checkpoint
from aerogel.checkpoint import scores
from aerogel.errors import CheckpointError, OutputError, TrainingError, UsageError
from aerogel.system.atomic_io import sha256
from aerogel.train import finetune
from aerogel.train import run as run_module
from aerogel.train.gradients import Gradients
from aerogel.train.method import StepContext
from aerogel.train.run import TrainConfig, train


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


@pytest.mark.parametrize(
    ("method", "goal"),
    [("movement", None), ("soft-movement", -math.log(9)), ("l0", -math.log(11)), ("smp", None)],
)
def test_scores_are_kept_beside_the_masks_they_made(
    config: Callable[..., TrainConfig], method: str, goal: float | None
) -> None:
    run = config(method=method, score_lr=1.0, block=(4, 1), save_scores=True)
    made = train(run)
    learnt = scores.load(made)
    assert learnt is not None
    for name, score in learnt.items():
        kept = made.masks[name][::4]
        assert score.shape == kept.shape
        assert score[kept].min() >= score[~kept].max()
        if goal is not None:
            # The last shift of a steered density is in them; float16 has 11 bits.
            assert score[~kept].max() <= goal * (1 - 2**-11)
            assert score[kept].min() >= goal * (1 + 2**-11)
    # Written with the checkpoint, and replaced with it.
    train(dataclasses.replace(run, save_scores=False))
    assert scores.load(checkpoint.load(run.out)) is None


def test_scores_that_there_are_not_cannot_be_kept(config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(UsageError, match="--save-scores: method magnitude learns no scores; drop it"):
        train(config(method="magnitude", save_scores=True))
    with pytest.raises(UsageError, match="--save-scores: scores end where --final-epochs begin"):
        config(final_epochs=1, save_scores=True)


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

        def after_backward(self, step: StepContext) -> None:
            if step.index == self.stop:
                raise KeyboardInterrupt
            # Of the penalty alone a gradient is 2 strength w: far more than the task's.
            for weight in self.weights.values():
                # The task adds up to 0.22 here, the penalty alone up to 2.6; the bound is twice 0.22.
                expected = 2 * self.options.strength * weight
                assert torch.allclose(weight.grad, expected, rtol=0, atol=0.45)
                assert expected.abs().max() > 2
                self.largest = torch.maximum(self.largest, weight.grad.abs().max())
            assert step.progress == pytest.approx((1 - step.density) / 0.75)

        def after_step(self, step: StepContext, optimizer: torch.optim.Optimizer) -> dict[str, float]:
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
            with pytest.raises(KeyboardInterrupt):
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
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, stop_at: Callable[[int], list[int]]
) -> None:
    poison_gradients(0, monkeypatch)
    with pytest.raises(TrainingError, match=r"at step 0; lower --lr or --score-lr$"):
        train(config("none"))
    monkeypatch.undo()
    run = config(save_every=5)
    stop_at(7)
    with pytest.raises(KeyboardInterrupt):
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


def test_a_file_that_is_no_log_is_refused_before_training(
    config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("notes\n")
    monkeypatch.setattr(finetune, "load_model", lambda *_: pytest.fail("it began"))
    with pytest.raises(UsageError, match=r"notes.txt exists and is not the log of a run"):
        train(config(log=tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "notes\n"


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
        ({"method": "soft-movement"}, r"--density 0.25 cannot be reached: .*; raise --score-lr [\d.]+ times"),
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
    monkeypatch.setattr(finetune, "load_model", lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError, match=message):
        train(config(**values))


def test_the_log_names_weights_that_were_not_safetensors(
    config: Callable[..., TrainConfig], tmp_path: Path, tiny_checkpoint: Callable[..., Path]
) -> None:
    given = Path(shutil.copytree(tiny_checkpoint(density=1.0), tmp_path / "given"))
    document = json.loads((given / "config.json").read_text()) | {"id2label": {"0": "0", "1": "1"}}
    (given / "config.json").write_text(json.dumps(document))
    torch.save(load_file(given / "model.safetensors"), given / "pytorch_model.bin")
    (given / "model.safetensors").unlink()
    values = {"model": str(given), "epochs": 1, "train_rows": 16, "method": "dense", "density": 1.0}
    run = config(**values, teacher=str(given))
    result = train(run)
    converted = {"model": ["pytorch_model.bin"], "teacher": ["pytorch_model.bin"]}
    assert events(run)[0]["settings"]["converted"] == result.record.config["converted"] == converted
    assert (run.out / "model.safetensors").is_file()
    assert "converted" not in train(config("other", **(values | {"model": str(run.out)}))).record.config
