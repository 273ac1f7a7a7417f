from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.bench.backend import Backend
from aerogel.registry import Registry

FAKE = """
import time

import numpy as np

from aerogel.bench.backend import Backend
from aerogel.bench.inputs import Input
from aerogel.bench.precision import Precision

# In the worker that imports this, only inferences advance the clock: timings are exact on a busy machine too.
clock = [0.0]


class Runner:
    inputs = [Input("input_ids", "tensor(int64)", ("batch", "sequence"))]
    details = "fake runtime 1.0"

    def __init__(self, seconds, utilization, outputs):
        self.seconds, self.outputs = seconds, outputs
        time.perf_counter = lambda: clock[0]
        time.process_time = lambda: clock[0] * utilization

    def run(self, feeds):
        clock[0] += self.seconds
        return self.outputs(feeds["input_ids"].astype(np.float32))


class Fake(Backend):
    variants = ("default",)
    seconds = {"default": 0.001}
    utilization = 1.0

    def refuse(self, model):
        return None

    def precision(self, model):
        return Precision(False, "fp32")

    def outputs(self, ids):
        return [ids]

    def open(self, path, threads, variant, batch, seq):
        return Runner(self.seconds[variant], self.utilization, self.outputs)
"""


@pytest.fixture
def fake_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry[Backend]]:
    """Registry of backends with scripted times: ``fake_backends(name="body of a subclass of Fake", ...)``.

    "onnxruntime", which every benchmark needs, is a plain Fake unless given.
    """

    def make(**bodies: str) -> Registry[Backend]:
        package = tmp_path / "faked" / "fake_backends"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "_fake.py").write_text(FAKE)
        for name, body in {"onnxruntime": "pass", **bodies}.items():
            lines = "\n    ".join(body.splitlines())
            (package / f"{name}.py").write_text(
                f"from fake_backends._fake import *\n\n\nclass C(Fake):\n    {lines}\n\n\nBACKEND = C()\n"
            )
        monkeypatch.syspath_prepend(package.parent)
        for module in [name for name in sys.modules if name.partition(".")[0] == "fake_backends"]:
            monkeypatch.delitem(sys.modules, module)
        return Registry("backend", "fake_backends", "BACKEND")

    yield make  # type: ignore[misc]  # a generator fixture's value is what it yields
    for module in [name for name in sys.modules if name.partition(".")[0] == "fake_backends"]:
        del sys.modules[module]
