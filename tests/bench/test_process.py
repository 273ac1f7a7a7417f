from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerogel.bench.backend import Backend
from aerogel.bench.process import Worker
from aerogel.errors import MissingExtraError, RuntimeLoadError, UsageError
from aerogel.registry import Registry

Fakes = Callable[..., Registry[Backend]]
Models = Callable[..., Path]

MIB = 1 << 20


def start(module: str, model: Path, **changes: Any) -> Worker:
    return Worker(
        module,
        model,
        **{"threads": 1, "variant": "default", "batch": 1, "seq": 4, "vocab": 50, "seed": 0} | changes,
    )


def stock(model: Path, **changes: Any) -> Worker:
    return start("aerogel.bench.backends.onnxruntime", model, **changes)


def test_the_worker_imports_nothing_but_its_runtime(fake_backends: Fakes, token_model: Models) -> None:
    import torch  # noqa: F401 - the parent has it, the worker must not

    heavy = (
        "torch",
        "transformers",
        "onnx",
        "scipy",
        "rich",
        "psutil",
        "matplotlib",
        "aerogel.train",
        "aerogel.export",
    )
    fakes = fake_backends(
        spy="def outputs(self, ids):\n"
        "    import sys, aerogel.bench.backends.onnxruntime as stock\n"
        "    from pathlib import Path\n"
        f"    stock.BACKEND.open(Path({str(token_model('spied.onnx'))!r}), 1, 'default', 1, 4)\n"
        f"    return [np.array([name in sys.modules for name in {heavy!r} + ('onnxruntime',)])]"
    )
    with start(fakes.module("spy"), token_model("model.onnx")) as worker:
        loaded = worker.outputs()[0].tolist()
    assert dict(zip(heavy, loaded, strict=False)) == dict.fromkeys(heavy, False)
    assert loaded[-1]


def test_outputs_are_the_models(token_model: Models) -> None:
    import onnxruntime

    model = token_model("model.onnx")
    with stock(model, batch=3, seq=5, seed=7) as worker:
        outputs = worker.outputs()
    feeds = {
        "input_ids": np.random.default_rng(7).integers(0, 50, (3, 5)),
        "attention_mask": np.ones((3, 5), np.int64),
    }
    expected = onnxruntime.InferenceSession(str(model)).run(None, feeds)
    assert len(outputs) == 1
    np.testing.assert_allclose(outputs[0], expected[0], rtol=1e-5)


def test_times_and_cpu_utilization(token_model: Models) -> None:
    with stock(token_model("model.onnx")) as worker:
        seconds, utilization = worker.run(20)
    assert len(seconds) == 20
    assert all(0 < time < 1 for time in seconds)
    assert 0 < utilization < 1.5
    assert worker.load_seconds > 0


def test_memory_is_of_one_model_only(token_model: Models) -> None:
    # Tables of 1 and of 200,001 rows of 64 floats: 51.2 million bytes apart.
    small, large = (
        token_model("small.onnx", vocab=1, width=64),
        token_model("large.onnx", vocab=200_001, width=64),
    )
    ballast = np.ones(200 * MIB // 8)
    with stock(large, vocab=1) as big, stock(small, vocab=1) as little:
        big.run(1)
        little.run(1)
        more, less = big.memory(), little.memory()
    assert more["before_load"] == pytest.approx(less["before_load"], abs=8 * MIB)
    assert more["after_load"] - less["after_load"] == pytest.approx(51.2e6, abs=20e6)
    for memory in (more, less):
        assert memory["before_load"] < memory["after_load"] <= memory["peak"]
        assert memory["after_runs"] <= memory["peak"]
    # Loading reads the file before it copies the table out of it.
    assert 51.2e6 < more["peak"] - more["before_load"] < 51.2e6 * 3 + 60e6
    # The memory of this process is not included.
    assert less["peak"] < ballast.nbytes


def test_errors_keep_their_types(token_model: Models, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x09")
    with pytest.raises(RuntimeLoadError, match=r"broken\.onnx cannot be loaded"):
        stock(broken)
    with pytest.raises(UsageError, match=r"model\.onnx does not run at --batch 1 --seq 4"):
        stock(token_model("model.onnx", vocab=2), vocab=1000)


def test_an_error_of_a_backend_keeps_its_type(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(
        poor="def open(self, path, threads, variant, batch, seq):\n"
        "    from aerogel.errors import require\n"
        "    require('no_such_runtime', 'bench')"
    )
    with pytest.raises(MissingExtraError, match=r"no_such_runtime is not installed; run: pip install"):
        start(fakes.module("poor"), token_model("model.onnx"))


def test_a_bug_in_a_backend_shows_its_last_line(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(buggy="def open(self, path, threads, variant, batch, seq):\n    return 1 / 0")
    with pytest.raises(
        RuntimeLoadError, match=r"ended with status 1 \(ZeroDivisionError: division by zero\)"
    ):
        start(fakes.module("buggy"), token_model("model.onnx"))


def test_output_of_a_runtime_does_not_disturb_replies(fake_backends: Fakes, token_model: Models) -> None:
    fakes = fake_backends(
        chatty="def outputs(self, ids):\n    import os\n    print('hello')\n    os.write(1, b'{}\\n')\n    return [ids]"
    )
    with start(fakes.module("chatty"), token_model("model.onnx")) as worker:
        assert worker.outputs()[0].shape == (1, 4)


def test_the_process_ends_with_its_worker(token_model: Models) -> None:
    with stock(token_model("model.onnx")) as worker:
        assert worker._process.poll() is None
    assert worker._process.poll() == 0
