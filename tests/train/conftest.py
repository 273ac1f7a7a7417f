from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel.train import loop
from aerogel.train.config import TrainConfig


@pytest.fixture
def config(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path]
) -> Callable[..., TrainConfig]:
    """Factory of configurations with 4 batches per epoch."""

    def make(out: str = "out", **values: Any) -> TrainConfig:
        settings = {
            "task": "sst2", "model": str(tiny_checkpoint(density=1.0)), "data": sentiment(), "method": "movement",
            "density": 0.25, "epochs": 3, "batch": 16, "max_length": 16, "lr": 1e-3, "threads": 1, "device": "cpu",
        }  # fmt: skip
        return TrainConfig(out=tmp_path / out, **settings | values)

    return make


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Function that makes training raise KeyboardInterrupt at a step; it returns the list of started steps."""

    def stop(last: int) -> list[int]:
        monkeypatch.undo()
        seen: list[int] = []
        density = loop.Cubic.density

        def spy(schedule: loop.Cubic, step: int) -> float:
            seen.append(step)
            if step == last:
                raise KeyboardInterrupt
            return density(schedule, step)

        monkeypatch.setattr(loop.Cubic, "density", spy)
        return seen

    return stop
