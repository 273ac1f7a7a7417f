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


def test_record_and_log_describe_the_run(config: Callable[..., TrainConfig]) -> None:
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
    ("method", "threshold"),
    [("movement", None), ("soft-movement", -math.log(9)), ("l0", -math.log(11)), ("smp", None)],
)
def test_saved_scores_match_masks(
    config: Callable[..., TrainConfig], method: str, threshold: float | None
) -> None:
    run = config(method=method, score_lr=1.0, block=(4, 1), save_scores=True)
    made = train(run)
    learned = scores.load(made)
    assert learned is not None
    for name, score in learned.items():
        kept = made.masks[name][::4]
        assert score.shape == kept.shape
        assert score[kept].min() >= score[~kept].max()
        if threshold is not None:
            # The saved scores include the last shift of the controller. The significand of float16 has 11 bits.
            assert score[~kept].max() <= threshold * (1 - 2**-11)
            assert score[kept].min() >= threshold * (1 + 2**-11)
    # The file is replaced together with the checkpoint.
    train(dataclasses.replace(run, save_scores=False))
    assert scores.load(checkpoint.load(run.out)) is None


def test_saving_scores_needs_a_method_that_learns_scores(config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(UsageError, match="--save-scores: method magnitude learns no scores; drop it"):
        train(config(method="magnitude", save_scores=True))
    with pytest.raises(UsageError, match="--save-scores: scores end where --final-epochs begin"):
        config(final_epochs=1, save_scores=True)


def test_evaluation_events_contain_density(config: Callable[..., TrainConfig]) -> None:
    run = config(method="l0", density=1.0, options={"lambda": 300.0}, score_lr=1.0, eval_every=5)
    train(run)
    first, second = (event for event in events(run) if event["event"] == "evaluation")
    # Scores start at 2.2 and fall by at most 3.5 and 5.7 until the evaluations; gates close at -2.4.
    assert first["achieved"] == 1.0
    assert second["achieved"] < 0.5
    assert (second["lambda"], second["density"]) == (300.0, 1.0)


def test_hooks_are_called_in_each_step_and_state_is_restored(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Options:
        strength: float = 2.0

    class Shrinking(run_module.METHODS.get("magnitude")):  # type: ignore[misc]
        """Counts its steps, pulls the weights towards zero and stores the largest gradient."""

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
            # The gradient of the penalty alone is 2 strength w, far more than that of the task.
            for weight in self.weights.values():
                # The task contributes up to 0.22, the penalty up to 2.6; the tolerance is twice 0.22.
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


def test_equal_settings_give_equal_files(config: Callable[..., TrainConfig]) -> None:
    one, two, other = (train(config(out, seed=seed)).path for out, seed in (("a", 3), ("b", 3), ("c", 4)))
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE):
        assert (one / name).read_bytes() == (two / name).read_bytes()
        assert (one / name).read_bytes() != (other / name).read_bytes()


def poison_gradients(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set one entry of a gradient to NaN in step `step`."""
    compute = Gradients.compute

    def poisoned(gradients: Gradients, batch: Any, at: int) -> torch.Tensor:
        loss = compute(gradients, batch, at)
        if at == step:
            gradients.parameters[3].grad.view(-1)[0] = float("nan")
        return loss

    monkeypatch.setattr(Gradients, "compute", poisoned)


def test_nan_or_inf_loss_stops_the_run(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_gradients(4, monkeypatch)
    run = config()
    with pytest.raises(TrainingError, match=r"the gradient is nan at step 4; lower lr"):
        train(run)
    assert not run.out.exists()

    monkeypatch.undo()
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d"):
        train(config(lr=1e30, clip=1e30))


def test_restart_is_advised_only_with_saved_state(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, stop_at: Callable[[int], list[int]]
) -> None:
    poison_gradients(0, monkeypatch)
    with pytest.raises(TrainingError, match=r"at step 0; lower lr or score_lr$"):
        train(config("none"))
    monkeypatch.undo()
    run = config(save_every=5)
    stop_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.undo()
    poison_gradients(5, monkeypatch)
    with pytest.raises(TrainingError, match=r"at step 5; lower lr or score_lr and run again with restart$"):
        train(run)


def test_failed_run_keeps_previous_checkpoint_and_log(config: Callable[..., TrainConfig]) -> None:
    dense = {"method": "dense", "density": 1.0, "epochs": 1, "train_rows": 16}
    before = train(config(**dense)).path
    content = (before / "model.safetensors").read_bytes()
    log = config().log_path.read_text()
    with pytest.raises(TrainingError, match=r"(NaN or Inf|nan|inf).*; lower lr"):
        train(config(**dense, lr=1e30))
    assert (before / "model.safetensors").read_bytes() == content
    # The log of the existing checkpoint is kept until a new checkpoint replaces it, also after several failures.
    with pytest.raises(TrainingError):
        train(config(**dense, lr=1e30))
    old = config().log_path.with_name("out.log.jsonl.old")
    assert old.read_text() == log
    train(config(**dense))
    assert not old.exists()


def test_weights_with_inf_after_last_step_are_named(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = run_module.Method.fold

    def poison(method: Any) -> Any:
        masks = fold(method)
        next(iter(method.matrices.values())).bias.data[0] = float("inf")
        return masks

    monkeypatch.setattr(run_module.Method, "fold", poison)
    with pytest.raises(TrainingError, match=r"layer.0.*bias contains NaN or Inf after the last step"):
        train(config())
    assert not config().out.exists()


def test_file_that_is_not_a_log_is_rejected_before_training(
    config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("notes\n")
    monkeypatch.setattr(finetune, "load_model", lambda *_: pytest.fail("the run began"))
    with pytest.raises(UsageError, match=r"notes.txt exists and is not the log of a run"):
        train(config(log=tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "notes\n"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "movment"}, r"unknown method 'movment'; known: .*; did you mean movement\?"),
        ({"task": "sst"}, r"unknown task 'sst'; known: .*sst2"),
        ({"block": (5, 1)}, r"block 5x1 does not divide bert.encoder.layer.0.* of shape 32x32"),
        ({"warmup": 4.0}, r"4 warm-up steps x \(1 initial \+ 2 final\) must be fewer than the 12 steps"),
        ({"warmup": 12.0}, r"warmup 12: must be fewer than the 12 steps"),
        ({"max_length": 65}, r"max_length 65: .* accepts at most 64 tokens"),
        ({"model": "/nowhere/at/all"}, r"model /nowhere/at/all: no such directory"),
        ({"model": None}, r"--model is missing"),
        ({"method": "soft-movement"}, r"density 0.25 cannot be reached: .*; raise score_lr [\d.]+ times"),
        ({"density": 0.1, "block": (32, 32)}, r"density 0.1: keeps 0 of the 1 32x32 blocks of bert"),
    ],
)
def test_invalid_settings_are_rejected(
    config: Callable[..., TrainConfig], values: dict[str, Any], message: str
) -> None:
    run = config(**values)
    with pytest.raises(UsageError, match=message):
        train(run)
    assert sorted(path.name for path in run.out.parent.iterdir()) == ["sentiment"]


def test_foreign_output_directory_is_rejected_before_training(config: Callable[..., TrainConfig]) -> None:
    run = config()
    run.out.mkdir()
    (run.out / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="exists and is not an Aerogel checkpoint"):
        train(run)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"out": "file"}, r"file is a file"),
        ({"out": "file/out"}, r"cannot be written"),
        ({"log": Path("/dev/null/log")}, r"/dev/null/log cannot be written"),
        ({"log": Path("/dev")}, r"/dev is a folder"),
    ],
)
def test_unwritable_outputs_are_rejected_before_training(
    config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    message: str,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(finetune, "load_model", lambda *_: pytest.fail("the run began"))
    with pytest.raises(OutputError, match=message):
        train(config(**values))


def test_converted_weight_files_are_recorded(
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
