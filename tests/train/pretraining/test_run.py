from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForPreTraining, AutoTokenizer

from aerogel import checkpoint
from aerogel.errors import AerogelError, DataError, OutputError, TrainingError, UsageError
from aerogel.train import loop
from aerogel.train.pretraining.config import PretrainConfig
from aerogel.train.pretraining.run import pretrain
from aerogel.train.run import TrainConfig, train

WORDS = "the a and of to is was in it that film good bad not very".split()  # noqa: SIM905


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Two files of 40 documents; each document uses its own four words."""
    draw = random.Random(0)
    folder = tmp_path / "text"
    folder.mkdir()
    for name in ("a", "b"):
        documents = []
        for _ in range(40):
            own = draw.sample(WORDS, 4)
            lines = (" ".join(draw.choices(own, k=draw.randint(3, 9))) for _ in range(draw.randint(4, 10)))
            documents.append("\n".join(lines))
        (folder / f"{name}.txt").write_text("\n\n".join(documents))
    return folder


@pytest.fixture
def config(tmp_path: Path, text: Path, tiny_checkpoint: Callable[..., Path]) -> Callable[..., PretrainConfig]:
    def make(out: str = "out", family: str = "bert", head: str = "", **values: Any) -> PretrainConfig:
        settings = {
            "text": (text,), "model": str(tiny_checkpoint(family, head, density=1.0)), "steps": 20, "batch": 8,
            "max_length": 40, "lr": 1e-3, "eval_fraction": 0.2, "eval_rows": 40, "shuffle": 16, "threads": 1,
            "device": "cpu", "final_warmup": 1.0,
        }  # fmt: skip
        return PretrainConfig(out=tmp_path / out, **settings | values)

    return make


@pytest.mark.parametrize("flag", ["out", "log", "tensorboard"])
def test_outputs_inside_text_folder_are_rejected(
    config: Callable[..., PretrainConfig], text: Path, flag: str
) -> None:
    with pytest.raises(UsageError, match=rf"--{flag} .*new: must be outside --text .*text, whose files"):
        config(**{flag: text / "new" if flag != "out" else "text/new"})


def events(config: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in config.log_path.read_text().splitlines()]


@pytest.mark.parametrize("method", ["rpp", "nip"])
def test_pretrained_mask_is_fine_tuned_and_exported(
    tmp_path: Path, config: Callable[..., PretrainConfig], sentiment: Callable[..., Path], method: str
) -> None:
    pytest.importorskip("onnxscript")
    from aerogel.cli import main

    found = pretrain(config(method=method, density=0.3, steps=30, lr=3e-3))
    assert found.accounting.density == pytest.approx(0.3, abs=0.005)
    assert len(found.masks) == 12
    assert found.record.task is None
    assert set(found.record.metrics) == {"mlm_loss", "mlm_accuracy", "nsp_accuracy"}
    assert found.record.config["reinitialized"] == ["cls.predictions", "cls.seq_relationship"]

    tuned = train(
        TrainConfig(
            out=tmp_path / "tuned", task="sst2", data=sentiment(), model=str(found.path), freeze_mask=True, epochs=2,
            batch=16, max_length=16, lr=1e-3, threads=1, device="cpu",
        )
    )  # fmt: skip
    assert tuned.masks.keys() == found.masks.keys()
    weights = load_file(tuned.path / checkpoint.WEIGHTS_FILE)
    for name, mask in found.masks.items():
        np.testing.assert_array_equal(tuned.masks[name], mask)
        assert not weights[name].numpy()[~mask].any()
    assert main(["export", str(tuned.path), "--format", "csr", "--out", str(tmp_path / "m.onnx")]) == 0


def test_checkpoint_loads_in_transformers(config: Callable[..., PretrainConfig]) -> None:
    made = pretrain(config(method="magnitude", density=0.3))
    for model_class, missing in (
        (AutoModel, {"pooler.dense.weight", "pooler.dense.bias"}),
        (AutoModelForPreTraining, set()),
    ):
        model, notes = model_class.from_pretrained(made.path, output_loading_info=True)
        assert set(notes["missing_keys"]) <= (set() if model_class is AutoModelForPreTraining else missing)
        assert not notes["mismatched_keys"]
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert AutoTokenizer.from_pretrained(made.path).mask_token == "[MASK]"


def test_loss_falls_and_evaluations_are_logged(config: Callable[..., PretrainConfig]) -> None:
    run = config(steps=120, eval_every=30, lr=3e-3, batch=16)
    record = pretrain(run).record
    found = [event for event in events(run) if event["event"] in ("evaluation", "end")]
    assert [event["step"] for event in found] == [30, 60, 90, 120]
    assert found[-1]["mlm_loss"] == record.metrics["mlm_loss"]
    losses = [event["mlm_loss"] for event in found]
    assert losses[-1] < losses[0] - 0.2
    # Each document has its own words, so the accuracy exceeds that of the most frequent of 15 words.
    assert record.metrics["mlm_accuracy"] > 0.15
    start = events(run)[0]
    assert start["total"] == 120
    assert start["settings"]["reinitialized"] == ["cls.predictions", "cls.seq_relationship"]
    assert record.data["text"]["files"] == 2


@pytest.mark.parametrize("family", ["roberta", "electra", "distilbert"])
def test_models_without_next_sentence_head_need_no_nsp(
    config: Callable[..., PretrainConfig], family: str
) -> None:
    with pytest.raises(UsageError, match=r"has no next-sentence head; turn off nsp"):
        pretrain(config(family=family))
    made = pretrain(config(family=family, nsp=False, method="magnitude", density=0.3))
    assert set(made.record.metrics) == {"mlm_loss", "mlm_accuracy"}
    assert made.accounting.density == pytest.approx(0.3, abs=0.01)


def test_from_scratch_uses_no_pretrained_weights(config: Callable[..., PretrainConfig]) -> None:
    one, two = (pretrain(config(out, from_scratch=True, steps=3, seed=s)) for out, s in (("a", 0), ("b", 1)))
    assert "bert.encoder" in one.record.config["reinitialized"]
    weights = [load_file(made.path / checkpoint.WEIGHTS_FILE) for made in (one, two)]
    name = "bert.encoder.layer.0.attention.self.query.weight"
    given = load_file(Path(config().model) / checkpoint.WEIGHTS_FILE)[name.removeprefix("bert.")]
    assert not torch.equal(weights[0][name], weights[1][name])
    # New weights have BERT's standard deviation of 0.02; those of the given model are larger.
    assert given.std() > 0.1 > 0.03 > weights[0][name].std()


PROGRAM = """
import os, signal, sys
from pathlib import Path, PosixPath
from aerogel.train.gradients import Gradients
from aerogel.train.pretraining.run import pretrain
from aerogel.train.pretraining.config import PretrainConfig
compute = Gradients.compute
def fatal(gradients, batch, at):
    if at == 25 and os.environ["RANK"] == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(gradients, batch, at)
Gradients.compute = fatal
pretrain(PretrainConfig(**eval(sys.argv[1])))
"""


def processes(run: PretrainConfig, count: int, port: int, killed: int | None = None) -> list[int]:
    """Run the processes of a run as torchrun does and return their exit statuses; `killed` dies at step 25."""
    environment = os.environ | {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, repr(vars(run)), str(killed)],
            env=environment | {"RANK": str(index), "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL,
        )
        for index in range(count)
    ]  # fmt: skip
    return [process.wait(timeout=900) for process in begun]


@pytest.mark.parametrize("count", [1, 2])
def test_killed_rpp_run_resumes_to_same_bytes(
    config: Callable[..., PretrainConfig], free_port: Callable[[], int], count: int
) -> None:
    # After a warm-up of 6 steps there are four phases: alpha is refreshed after steps 19, 33 and 46.
    values = {"steps": 60, "save_every": 4, "method": "rpp", "density": 0.3, "options": {"reweightings": 3}}
    run = config("killed", **values)
    statuses = processes(run, count, free_port(), killed=count - 1)
    assert statuses[-1] == -signal.SIGKILL
    assert not run.out.exists()
    state = torch.load(run.state_path, weights_only=True)
    assert state["step"] == 24
    assert state["position"]["row"] >= 0
    assert [event["reweighting"] for event in events(run) if "reweighting" in event] == [1.0]

    assert processes(run, count, free_port()) == [0] * count
    assert [(e["step"], e["reweighting"]) for e in events(run) if "reweighting" in e] == [
        (19, 1.0), (33, 2.0), (46, 3.0),
    ]  # fmt: skip
    whole = pretrain(config("whole", accumulate=count, **values))
    assert whole.accounting.density == pytest.approx(0.3, abs=0.005)
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE):
        assert (run.out / name).read_bytes() == (whole.path / name).read_bytes()


class Stopped(Exception):  # noqa: N818  # nothing went wrong
    """Ends a run early."""


def test_run_resumes_within_stream_and_only_with_same_text(
    config: Callable[..., PretrainConfig], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    density = loop.Cubic.density

    def stop(schedule: Any, step: int) -> float:
        if step == 37:
            raise Stopped
        return density(schedule, step)

    run = config(steps=50, save_every=9)
    monkeypatch.setattr(loop.Cubic, "density", stop)
    with pytest.raises(Stopped):
        pretrain(run)
    monkeypatch.undo()
    position = torch.load(run.state_path, weights_only=True)["position"]
    assert position["block"] + position["epoch"] > 0
    content = (text / "a.txt").read_bytes()
    (text / "a.txt").write_bytes(content + b"\nmore")
    with pytest.raises(UsageError, match=r"state of a run with data text .*use restart"):
        pretrain(run)
    (text / "a.txt").write_bytes(content)
    resumed, whole = pretrain(run).path, pretrain(config("whole", steps=50)).path
    assert (resumed / checkpoint.WEIGHTS_FILE).read_bytes() == (whole / checkpoint.WEIGHTS_FILE).read_bytes()


def test_nan_or_inf_loss_writes_no_checkpoint(config: Callable[..., PretrainConfig]) -> None:
    run = config(lr=1e30, clip=1e30, warmup=0.0)
    with pytest.raises(TrainingError, match=r"the (loss|gradient) is (nan|inf) at step \d"):
        pretrain(run)
    assert not run.out.exists()


def test_full_disk_keeps_previous_checkpoint(
    config: Callable[..., PretrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pretrain(config(steps=3)).path
    content = (before / checkpoint.WEIGHTS_FILE).read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aerogel.train.run.save_model", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        pretrain(config(steps=4))
    assert (before / checkpoint.WEIGHTS_FILE).read_bytes() == content


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"steps": 0}, UsageError, r"--steps 0: must be at least 1"),
        ({"eval_fraction": 0.0}, UsageError, r"--eval-fraction 0: must be between 0 and 1"),
        ({"shuffle": 1}, UsageError, r"--shuffle 1: must be at least 2"),
        ({"text": (Path("/no/such"),)}, UsageError, r"--text /no/such: no such file or directory"),
        ({"max_length": 18}, UsageError, r"max-length 18: .*special tokens"),
        ({"max_length": 65}, UsageError, r"max_length 65: .* accepts at most 64"),
        ({"eval_fraction": 1e-6}, DataError, r"held_out 1e-06: only 0 documents"),
        ({"method": "movment"}, UsageError, r"unknown method 'movment'"),
        ({"model": "/no/such"}, UsageError, r"model /no/such: no such directory"),
    ],
)
def test_invalid_settings_are_rejected(
    config: Callable[..., PretrainConfig], values: dict[str, Any], error: type[AerogelError], message: str
) -> None:
    with pytest.raises(error, match=message):
        pretrain(config(**values))
    assert not list(config().out.parent.glob("out*"))


def test_tokenizer_larger_than_embeddings_is_rejected(
    tmp_path: Path, config: Callable[..., PretrainConfig]
) -> None:
    own = Path(shutil.copytree(config().model, tmp_path / "own"))
    tokenizer = AutoTokenizer.from_pretrained(own)
    tokenizer.add_tokens([f"word{n}" for n in range(50)])
    tokenizer.save_pretrained(own)
    with pytest.raises(UsageError, match="its tokenizer has more entries than its embeddings"):
        pretrain(config(model=str(own)))
