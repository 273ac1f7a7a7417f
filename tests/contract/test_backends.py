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


def test_stock_onnx_runtime_runs_everything(token_model: Models) -> None:
    stock = BACKENDS.get(STOCK)
    assert stock.refuse(scan(token_model("dense.onnx"))) is None
    assert stock.refuse(scan(token_model("sparse.onnx", sparse=True))) is None


def test_variants_have_distinct_names(name: str) -> None:
    variants = BACKENDS.get(name).variants
    assert variants
    assert len(set(variants)) == len(variants)


def test_every_precision_has_a_tolerance_and_stock_is_dense_fp32(name: str, token_model: Models) -> None:
    for sparse in (False, True):
        precision = BACKENDS.get(name).precision(scan(token_model("model.onnx", sparse=sparse)))
        assert precision.tolerance == TOLERANCES[precision.dtype]
        assert name != STOCK or str(precision) == "dense fp32"


@pytest.mark.parametrize("sparse", [False, True])
def test_every_variant_is_correct_or_refused_with_a_reason(
    name: str, token_model: Models, tmp_path: Path, sparse: bool
) -> None:
    """Set the environment variables of docs/bench.md to run third-party backends in their own interpreters."""
    backend, path = BACKENDS.get(name), token_model("model.onnx", sparse=sparse)
    (tmp_path / "config.json").write_text('{"vocab_size": 50}')
    model = scan(path)
    reason = backend.refuse(model)
    assert reason is None or reason.strip()
    if reason is not None:
        pytest.skip(f"{name} does not run here: {reason}")
    for variant in backend.variants:
        for batch, seq, lengths in ((1, 1, ()), (3, 7, ()), (2, 5, (5, 3))):
            prepared = backend.prepare(path, variant, tmp_path / "work", batch, seq)
            with start(name, prepared, variant, batch, seq, lengths) as worker:
                (logits,) = worker.outputs()
            expected = reference(batch, seq, lengths)
            assert logits.shape == expected.shape
            assert (
                np.abs(logits - expected).max() <= backend.precision(model).tolerance * np.abs(expected).max()
            )


def test_third_party_backends_report_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, token_model: Models
) -> None:
    model = scan(token_model("model.onnx"))
    for name in third_party_backends():
        backend = BACKENDS.get(name)
        for variable in [key for key in os.environ if key.startswith("AEROGEL_PYTHON_")]:
            monkeypatch.delenv(variable)
        reason = backend.refuse(model)
        assert reason is None or ("pip install" in reason and "AEROGEL_PYTHON_" in reason)


def test_aerogel_runs_sparse_functions_if_the_library_exists(token_model: Models) -> None:
    from aerogel.kernels.cpu.library import find_library

    model = scan(token_model("model.onnx", sparse=True))
    assert (BACKENDS.get("aerogel").refuse(model) is None) == (find_library() is not None)


def test_a_damaged_model_raises_an_aerogel_error(name: str, tmp_path: Path, token_model: Models) -> None:
    if BACKENDS.get(name).refuse(scan(token_model("model.onnx"))) is not None:
        # A backend that is not installed cannot load a model either.
        with pytest.raises(AerogelError):
            BACKENDS.get(name).open(tmp_path / "none.onnx", 1, BACKENDS.get(name).variants[0], 1, 4)
        pytest.skip(f"{name} is not installed; only its refusal was tested")
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x09nonsense")
    for variant in BACKENDS.get(name).variants:
        with pytest.raises(AerogelError):
            start(name, path, variant, 1, 4)


def start(name: str, path: Path, variant: str, batch: int, seq: int, lengths: tuple[int, ...] = ()) -> Worker:
    return Worker(
        BACKENDS.module(name), path, python=BACKENDS.get(name).python(), threads=1, variant=variant,
        batch=batch, seq=seq, vocab=50, seed=batch, lengths=lengths,
    )  # fmt: skip


def reference(batch: int, seq: int, lengths: tuple[int, ...]) -> np.ndarray:
    """Compute the fixture's model in float64, from the same random numbers."""
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
