"""Gradients do not depend on micro-batches, processes, checkpointing or compilation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aerogel.errors import UsageError
from aerogel.train.batches import Rows
from aerogel.train.gradients import Gradients, seed_torch
from aerogel.train.loss import TaskLoss
from aerogel.train.model import load_model
from aerogel.train.run import TASKS, TrainConfig


@pytest.fixture
def compute(tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path]) -> Callable[..., Any]:
    """Function that computes loss and gradients of 19 rows: ``compute(dropout=0.0, step=0, accumulate=2)``."""

    def make(
        dropout: float = 0.0, step: int = 0, index: int = 0, count: int = 1, **values: Any
    ) -> tuple[float, dict[str, torch.Tensor]]:
        task, data = TASKS.get("sst2"), sentiment()
        path = tiny_checkpoint(density=1.0, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        config = TrainConfig(task="sst2", out=Path("out"), device="cpu", **values)
        loaded = task.load(data)
        model, tokenizer = load_model(str(path), task, loaded.labels, 16, 0)
        rows = Rows(task.encode(loaded.train, tokenizer, 16))
        one = SimpleNamespace(index=index, count=count, device=torch.device("cpu"), sum=lambda _: None)
        gradients = Gradients(config, model.train(), TaskLoss(), one)  # type: ignore[arg-type]
        loss = gradients.compute(rows.batch(list(range(19))), step)
        return float(loss), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    return make


def close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], bound: float) -> bool:
    """Whether no entry differs by more than `bound` times the largest entry of its tensor."""
    assert one.keys() == two.keys()
    assert all(torch.count_nonzero(value) for name, value in one.items() if name.endswith("dense.weight"))
    # The bias of a key shifts all attention scores of a row, which has no effect: its gradient is rounding noise.
    names = [name for name in one if not name.endswith("key.bias")]
    return all(float((one[n] - two[n]).abs().max()) <= bound * float(one[n].abs().max()) for n in names)


@pytest.mark.parametrize("parts", [2, 3, 19, 40])
def test_micro_batches_give_gradients_of_whole_batch(compute: Callable[..., Any], parts: int) -> None:
    (whole, expected), (loss, actual) = compute(), compute(accumulate=parts)
    assert loss == pytest.approx(whole, rel=1e-6)
    assert close(expected, actual, 1e-5)


@pytest.mark.parametrize(("count", "parts"), [(2, 3), (3, 5), (2, 2)])
def test_each_micro_batch_is_computed_by_one_process(
    compute: Callable[..., Any], count: int, parts: int
) -> None:
    # Dropout depends on the micro-batch, not on the process that computes it.
    loss, whole = compute(dropout=0.3, accumulate=parts)
    computed = [compute(dropout=0.3, accumulate=parts, index=index, count=count) for index in range(count)]
    assert sum(part for part, _ in computed) == pytest.approx(loss, rel=1e-6)
    summed = {name: sum(actual[name] for _, actual in computed) for name in whole}
    assert close(whole, summed, 1e-5)


def test_dropout_depends_on_seed_step_and_micro_batch(compute: Callable[..., Any]) -> None:
    first, _ = compute(dropout=0.3)
    torch.rand(7)
    assert compute(dropout=0.3)[0] == first
    others = [
        compute(dropout=0.3, step=1)[0],
        compute(dropout=0.3, seed=1)[0],
        compute(dropout=0.3, accumulate=2)[0],
    ]
    assert len({first, *others}) == 4


def test_gradient_checkpointing_gives_same_gradients(compute: Callable[..., Any]) -> None:
    (whole, expected), (loss, actual) = (
        compute(dropout=0.3),
        compute(dropout=0.3, gradient_checkpointing=True),
    )
    assert loss == whole
    assert close(expected, actual, 1e-6)


def test_bf16_gives_similar_float32_gradients(compute: Callable[..., Any]) -> None:
    (whole, expected), (loss, actual) = compute(), compute(precision="bf16")
    assert loss != whole
    # The significand of bf16 has 8 bits.
    assert loss == pytest.approx(whole, rel=2**-6)
    assert {value.dtype for value in actual.values()} == {torch.float32}
    assert not close(expected, actual, 1e-5)
    assert close(expected, actual, 0.1)


def test_compiled_model_gives_same_gradients(
    compute: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Skip the C++ compiler, which takes a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    (whole, expected), (loss, actual) = compute(), compute(compile=True)
    assert loss == pytest.approx(whole, rel=1e-6)
    assert close(expected, actual, 1e-5)


def test_fp16_on_cpu_is_rejected(compute: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="precision fp16: needs a GPU; use bf16 on a CPU"):
        compute(precision="fp16")


def test_seeds_of_steps_and_streams_differ() -> None:
    values = set()
    for numbers in [(0, 0), (0, 0, 1), (0, 0, 2), (0, 1), (0, 1, 1), (1, 0)]:
        seed_torch(*numbers)
        values.add(float(torch.rand(())))
    assert len(values) == 6
