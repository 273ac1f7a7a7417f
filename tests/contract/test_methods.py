"""Contract of every pruning method, tested on every encoder family."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from aerogel import checkpoint
from aerogel.sparse.masks import kept_count
from aerogel.train.method import Method, SparsityConfig, StepContext
from aerogel.train.methods import METHODS
from aerogel.train.run import TrainConfig, train
from aerogel.train.schedule import Cubic

PRUNING = [name for name in METHODS.names() if METHODS.get(name).prunes]
# Methods that keep the target density in every matrix with local scope. The others share budgets among matrices.
EXACT = [
    name
    for name in PRUNING
    if METHODS.get(name).update is Method.update and not METHODS.get(name).density_is_outcome
]


def run(
    tmp_path: Path,
    model: Path,
    data: Path,
    method: str,
    density: float,
    block: tuple[int, int] = (1, 1),
    scope: str = "local",
    out: str = "out",
    **values: Any,
) -> checkpoint.Checkpoint:
    settings: dict[str, Any] = {
        "task": "sst2", "model": str(model), "data": data, "method": method, "density": density, "block": block,
        "scope": scope, "epochs": 3, "batch": 16, "max_length": 16, "lr": 1e-3, "threads": 1, "device": "cpu",
    }  # fmt: skip
    if METHODS.get(method).density_is_outcome:
        # Scores must move far.
        settings |= {"epochs": 10, "score_lr": 0.5}
    return train(TrainConfig(out=tmp_path / out, **settings | values))


def test_every_entry_is_a_method() -> None:
    assert {"dense", "l0", "magnitude", "movement", "nip", "obert", "rpp", "smp", "soft-movement"} <= set(
        METHODS.names()
    )
    assert all(issubclass(METHODS.get(name), Method) for name in METHODS.names())


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra"])
@pytest.mark.parametrize("method", PRUNING)
def test_density_is_reached_and_checkpoint_loads_in_transformers(
    tmp_path: Path,
    tiny_checkpoint: Callable[..., Path],
    sentiment: Callable[..., Path],
    method: str,
    family: str,
) -> None:
    result = run(tmp_path, tiny_checkpoint(family, density=1.0), sentiment(), method, density=0.13)

    # Two layers of four 32 x 32 and two 32 x 64 matrices.
    assert sorted(mask.size for mask in result.masks.values()) == [1024] * 8 + [2048] * 4
    weights = load_file(result.path / checkpoint.WEIGHTS_FILE)
    assert result.accounting.density == pytest.approx(0.13, abs=0.005)
    for name, mask in result.masks.items():
        if method in EXACT:
            assert np.count_nonzero(mask) == kept_count(0.13, mask.size)
        kept = weights[name].numpy() != 0
        assert not kept[~mask].any()
        assert kept[mask].mean() > 0.99

    model, notes = AutoModelForSequenceClassification.from_pretrained(result.path, output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(result.path)
    lines = (tmp_path / "sentiment" / "dev.tsv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.split("\t") for line in lines), strict=True)
    with torch.inference_mode():
        logits = model.eval()(**tokenizer(list(texts), padding=True, return_tensors="pt")).logits
    accuracy = float(np.mean(logits.argmax(1).numpy() == np.array(labels, int)))
    assert accuracy == result.record.metrics["accuracy"]


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("block", [(4, 1), (1, 4), (8, 8)])
@pytest.mark.parametrize("method", PRUNING)
def test_blocks_are_kept_or_pruned_as_a_whole(
    tmp_path: Path,
    tiny_checkpoint: Callable[..., Path],
    sentiment: Callable[..., Path],
    method: str,
    block: tuple[int, int],
    scope: str,
) -> None:
    result = run(tmp_path, tiny_checkpoint(density=1.0), sentiment(), method, 0.25, block, scope)
    rows, cols = block
    total = 0
    for mask in result.masks.values():
        blocks = mask.reshape(mask.shape[0] // rows, rows, mask.shape[1] // cols, cols).transpose(0, 2, 1, 3)
        whole = blocks.reshape(-1, rows * cols)
        assert (whole.all(1) == whole.any(1)).all()
        total += int(whole.all(1).sum())
        if scope == "local" and method in EXACT:
            assert whole.all(1).sum() == kept_count(0.25, len(whole))
    blocks = 16_384 // (rows * cols)
    if METHODS.get(method).density_is_outcome:
        # With 8 x 8 blocks, one block is 0.4%.
        assert total == pytest.approx(0.25 * blocks, abs=max(2, 0.005 * blocks))
        scope = "global"
    else:
        assert total == kept_count(0.25, blocks)
    assert (result.record.block, result.record.scope) == (block, scope)


# "frozen" reads its masks from a checkpoint: see tests/train/methods/test_frozen.py.
@pytest.mark.parametrize(
    "method", [name for name in METHODS.names() if not METHODS.get(name).prunes and name != "frozen"]
)
def test_method_that_does_not_prune_writes_no_masks(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path], method: str
) -> None:
    result = run(tmp_path, tiny_checkpoint(density=1.0), sentiment(), method, density=1.0)
    assert result.masks == {}
    assert result.accounting.density == result.accounting.encoder_density == 1.0


class Stopped(Exception):  # noqa: N818  # nothing went wrong
    """Ends a run early."""


@pytest.mark.parametrize("last", [17, 47])
@pytest.mark.parametrize("method", PRUNING)
def test_resumed_run_gives_same_bytes(
    tmp_path: Path,
    tiny_checkpoint: Callable[..., Path],
    sentiment: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    last: int,
) -> None:
    """40 steps with the descent from 4 to 32, then 12 with fixed masks; the state is saved every 7 steps."""
    paths = (tiny_checkpoint(density=1.0), sentiment())

    def once(out: str) -> checkpoint.Checkpoint:
        return run(
            tmp_path, *paths, method, 0.25, out=out, epochs=10, final_epochs=3, score_lr=0.5, save_every=7
        )

    density, steps = Cubic.density, itertools.count()

    def stop(schedule: Cubic, step: int) -> float:
        if next(steps) == last:
            raise Stopped
        return density(schedule, step)

    with monkeypatch.context() as patch:
        patch.setattr(Cubic, "density", stop)
        with pytest.raises(Stopped):
            once("stopped")
    assert (tmp_path / "stopped.state.pt").exists()
    whole, resumed = once("whole").path, once("stopped").path
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


@pytest.mark.parametrize("block", [(1, 1), (2, 4)])
@pytest.mark.parametrize("method", PRUNING)
def test_folded_weights_equal_evaluated_ones_and_are_zero_where_pruned(
    method: str, block: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    linears = {"layer.0.w": nn.Linear(16, 32), "layer.1.w": nn.Linear(32, 8)}
    model = nn.Sequential(linears["layer.0.w"], nn.Tanh(), linears["layer.1.w"])
    pruner = METHODS.get(method)(linears, SparsityConfig(0.25, block))
    weights, scores = list(pruner.weights.values()), list(pruner.score_parameters())
    groups = [{"params": weights, "lr": 0.02}] + ([{"params": scores, "lr": 0.5}] if scores else [])
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule, inputs = Cubic(1.0, 0.25, 40, 4, 1, 2), torch.randn(64, 16)
    for index in range(40):
        progress = schedule.progress(index)
        step = StepContext(index, 40, schedule.density(index), progress, 0.02, 0.5 * (1 - index / 40), 4, 32)
        model.train()
        pruner.before_step(step)
        penalty = pruner.penalty()
        loss = (model(inputs) - inputs[:, :8]).square().mean()
        (loss if penalty is None else loss + penalty).backward()
        pruner.after_backward(step)
        optimizer.step()
        pruner.after_step(step, optimizer)
        optimizer.zero_grad()
    pruner.finalize()
    evaluated = model.eval()(inputs)
    masks = pruner.fold()
    assert torch.equal(model(inputs), evaluated)
    for name, mask in masks.items():
        weight = linears[name].weight.detach()
        assert not weight[torch.from_numpy(~mask)].any()
        assert weight[torch.from_numpy(mask)].all()
        assert not torch.signbit(weight[torch.from_numpy(~mask)]).any()
    total = sum(mask.sum() for mask in masks.values())
    assert total == pytest.approx(0.25 * 768, abs=8)


@pytest.mark.parametrize("method", PRUNING)
def test_labels_have_no_effect_with_teacher_loss_only(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path], method: str
) -> None:
    start, data = tiny_checkpoint(density=1.0), sentiment()
    teacher = run(tmp_path, start, data, "dense", 1.0, out="teacher").path
    settings = {"teacher": str(teacher), "kd_weight": 1.0, "ce_weight": 0.0, "hidden_weight": 0.1}
    one = run(tmp_path, start, data, method, 0.25, out="one", **settings).path
    rows = (data / "train.tsv").read_text().splitlines()
    swapped = [row[:-1] + {"0": "1", "1": "0"}.get(row[-1], row[-1]) for row in rows]
    (data / "train.tsv").write_text("\n".join(swapped) + "\n")
    two = run(tmp_path, start, data, method, 0.25, out="two", **settings).path
    control = run(tmp_path, start, data, method, 0.25, out="three").path
    weights = [(path / checkpoint.WEIGHTS_FILE).read_bytes() for path in (one, two, control)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
