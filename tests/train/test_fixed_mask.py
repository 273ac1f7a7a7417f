from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aerogel.errors import UsageError
from aerogel.train.gradients import Gradients
from aerogel.train.run import TrainConfig, train


def events(config: TrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in config.log_path.read_text().splitlines()]


def test_final_epochs_train_with_fixed_masks_and_fresh_schedule(
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
    # 12 steps with a warm-up of 1, then 8 steps, whose warm-up rounds to 0. Both schedules end at 0.
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
                raise KeyboardInterrupt
            return compute(gradients, batch, at)  # noqa: B023  # undone before the next iteration

        monkeypatch.setattr(Gradients, "compute", stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
        monkeypatch.undo()
        assert (train(stopped).path / "model.safetensors").read_bytes() == (
            long.path / "model.safetensors"
        ).read_bytes()


def test_final_epochs_without_masks_are_rejected(config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(UsageError, match="final_epochs: method dense finds no masks to fix"):
        train(config(method="dense", density=1.0, final_epochs=1))
