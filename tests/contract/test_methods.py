"""What every pruning method must do, on every family of encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from aerogel import checkpoint
from aerogel.sparse.masks import kept_count
from aerogel.train.method import Method
from aerogel.train.methods import METHODS
from aerogel.train.run import TrainConfig, train

PRUNING = [name for name in METHODS.names() if METHODS.get(name).prunes]
# Those that keep the asked part of every matrix in local scope. Others spend one budget on several matrices.
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
        # Scores have a long way to go.
        settings |= {"epochs": 10, "score_lr": 0.5}
    return train(TrainConfig(out=tmp_path / out, **settings | values))


def test_every_name_is_a_method() -> None:
    assert {"dense", "l0", "magnitude", "movement", "nip", "obert", "rpp", "smp", "soft-movement"} <= set(
        METHODS.names()
    )
    assert all(issubclass(METHODS.get(name), Method) for name in METHODS.names())


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra"])
@pytest.mark.parametrize("method", PRUNING)
def test_exact_density_zeros_and_a_directory_that_transformers_loads(
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
def test_blocks_are_kept_or_dropped_whole(
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
        # One block more or less is 0.4% where they are 8 x 8.
        assert total == pytest.approx(0.25 * blocks, abs=max(2, 0.005 * blocks))
        scope = "global"
    else:
        assert total == kept_count(0.25, blocks)
    assert (result.record.block, result.record.scope) == (block, scope)


@pytest.mark.parametrize("method", [name for name in METHODS.names() if not METHODS.get(name).prunes])
def test_a_method_that_does_not_prune_leaves_no_mask(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path], method: str
) -> None:
    result = run(tmp_path, tiny_checkpoint(density=1.0), sentiment(), method, density=1.0)
    assert result.masks == {}
    assert result.accounting.density == result.accounting.encoder_density == 1.0
