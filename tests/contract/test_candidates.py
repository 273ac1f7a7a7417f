from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aerogel.bench.backends import BACKENDS, third_party_backends
from aerogel.bench.inputs import Input, feeds
from aerogel.bench.model import scan
from aerogel.bench.precision import TOLERANCES
from aerogel.bench.process import Worker
from aerogel.bench.result import STOCK
from aerogel.errors import AerogelError

Models = Callable[..., Path]


@pytest.fixture(params=BACKENDS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_stock_onnxruntime_supports_every_model(token_model: Models) -> None:
    stock = BACKENDS.get(STOCK)
    assert stock.refuse(scan(token_model("dense.onnx"))) is None
    assert stock.refuse(scan(token_model("sparse.onnx", sparse=True))) is None


def test_settings_have_distinct_names(name: str) -> None:
    settings = BACKENDS.get(name).settings
    assert settings
    assert len(set(settings)) == len(settings)


def test_precisions_have_a_tolerance_and_stock_is_dense_and_exact(name: str, token_model: Models) -> None:
    for sparse in (False, True):
        kind = BACKENDS.get(name).kind(scan(token_model("model.onnx", sparse=sparse)))
        assert kind.tolerance == TOLERANCES[kind.precision]
        assert name != STOCK or str(kind) == "dense fp32"


@pytest.mark.parametrize("sparse", [False, True])
def test_every_setting_runs_correctly_or_gives_a_reason(
    name: str, token_model: Models, tmp_path: Path, sparse: bool
) -> None:
    """Backends run in their own interpreter if they have one; docs/bench.md has the variables to set."""
    candidate, path = BACKENDS.get(name), token_model("model.onnx", sparse=sparse)
    (tmp_path / "config.json").write_text('{"vocab_size": 50}')
    model = scan(path)
    reason = candidate.refuse(model)
    assert reason is None or reason.strip()
    if reason is not None:
        pytest.skip(f"{name} does not run here: {reason}")
    for setting in candidate.settings:
        for batch, seq, lengths in ((1, 1, ()), (3, 7, ()), (2, 5, (5, 3))):
            prepared = candidate.prepare(path, setting, tmp_path / "work", batch, seq)
            with start(name, prepared, setting, batch, seq, lengths) as worker:
                (logits,) = worker.outputs()
            expected = reference(batch, seq, lengths)
            assert logits.shape == expected.shape
            assert np.abs(logits - expected).max() <= candidate.kind(model).tolerance * np.abs(expected).max()


def test_third_party_backends_name_their_install_command(
    monkeypatch: pytest.MonkeyPatch, token_model: Models
) -> None:
    model = scan(token_model("model.onnx"))
    for name in third_party_backends():
        candidate = BACKENDS.get(name)
        for variable in [key for key in os.environ if key.startswith("AEROGEL_PYTHON_")]:
            monkeypatch.delenv(variable)
        reason = candidate.refuse(model)
        assert reason is None or ("pip install" in reason and "AEROGEL_PYTHON_" in reason)


def test_one_backend_runs_sparse_functions_with_the_library(token_model: Models) -> None:
    from aerogel.kernels.cpu.library import find_library

    model = scan(token_model("model.onnx", sparse=True))
    assert (BACKENDS.get("aerogel").refuse(model) is None) == (find_library() is not None)


def test_a_damaged_model_raises_an_aerogel_error(name: str, tmp_path: Path, token_model: Models) -> None:
    if BACKENDS.get(name).refuse(scan(token_model("model.onnx"))) is not None:
        # Backends that are not installed refuse to open any model.
        with pytest.raises(AerogelError):
            BACKENDS.get(name).open(tmp_path / "none.onnx", 1, BACKENDS.get(name).settings[0], 1, 4)
        pytest.skip(f"{name} is not installed; only its refusal was tested")
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x09nonsense")
    for setting in BACKENDS.get(name).settings:
        with pytest.raises(AerogelError):
            start(name, path, setting, 1, 4)


def start(name: str, path: Path, setting: str, batch: int, seq: int, lengths: tuple[int, ...] = ()) -> Worker:
    return Worker(
        BACKENDS.module(name), path, python=BACKENDS.get(name).python(), threads=1, setting=setting,
        batch=batch, seq=seq, vocab=50, seed=batch, lengths=lengths,
    )  # fmt: skip


def reference(batch: int, seq: int, lengths: tuple[int, ...]) -> np.ndarray:
    """The model of the fixture in float64, with the same random weights."""
    inputs = [Input(item, "tensor(int64)", ("b", "s")) for item in ("input_ids", "attention_mask")]
    given = feeds(Path("m"), inputs, batch=batch, seq=seq, vocab=50, seed=batch, lengths=lengths)
    vocab, width = 50, 16
    random = np.random.default_rng(0)
    mask = random.random((width, width)) < 0.25
    weight = np.where(mask, random.standard_normal((width, width)), 0)
    table = random.standard_normal((vocab, width), np.float32)
    bias = random.standard_normal(width, np.float32)
    tokens = np.tanh(table[given["input_ids"]].astype(np.float64) @ weight.T + bias)
    return (tokens * given["attention_mask"][..., np.newaxis]).mean(axis=1)
