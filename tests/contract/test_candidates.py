from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aerogel.bench.candidates import CANDIDATES
from aerogel.bench.inputs import feeds
from aerogel.bench.model import scan
from aerogel.bench.result import STOCK, TOLERANCE
from aerogel.errors import AerogelError

Models = Callable[..., Path]


@pytest.fixture(params=CANDIDATES.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_stock_is_among_them_and_takes_everything(token_model: Models) -> None:
    stock = CANDIDATES.get(STOCK)
    assert stock.refuse(scan(token_model("dense.onnx"))) is None
    assert stock.refuse(scan(token_model("sparse.onnx", sparse=True))) is None


def test_settings_are_distinct_names(name: str) -> None:
    settings = CANDIDATES.get(name).settings
    assert settings
    assert len(set(settings)) == len(settings)


@pytest.mark.parametrize("sparse", [False, True])
def test_runs_right_under_every_setting_or_says_why_not(name: str, token_model: Models, sparse: bool) -> None:
    candidate, path = CANDIDATES.get(name), token_model("model.onnx", sparse=sparse)
    reason = candidate.refuse(scan(path))
    assert reason is None or reason.strip()
    if reason is not None:
        return
    for setting in candidate.settings:
        runner = candidate.open(path, 1, setting)
        assert [item.name for item in runner.inputs] == ["input_ids", "attention_mask"]
        for batch, seq in ((1, 1), (3, 7)):
            given = feeds(path, runner.inputs, batch=batch, seq=seq, vocab=50, seed=batch)
            (logits,) = runner.run(given)
            expected = reference(given["input_ids"])
            assert logits.shape == expected.shape
            assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_one_candidate_runs_sparse_functions_where_the_library_is(token_model: Models) -> None:
    from aerogel.kernels.cpu import find_library

    model = scan(token_model("model.onnx", sparse=True))
    assert (CANDIDATES.get("aerogel").refuse(model) is None) == (find_library() is not None)


def test_a_broken_model_is_a_typed_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x09nonsense")
    for setting in CANDIDATES.get(name).settings:
        with pytest.raises(AerogelError):
            CANDIDATES.get(name).open(path, 1, setting)


def reference(ids: np.ndarray) -> np.ndarray:
    """The fixture's model in float64, from the same random stream."""
    vocab, width = 50, 16
    random = np.random.default_rng(0)
    mask = random.random((width, width)) < 0.25
    weight = np.where(mask, random.standard_normal((width, width)), 0)
    table = random.standard_normal((vocab, width), np.float32)
    bias = random.standard_normal(width, np.float32)
    return np.tanh(table[ids].astype(np.float64) @ weight.T + bias).mean(axis=1)
