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

from aerogel.bench.backend import Candidate
from aerogel.bench.inputs import Input
from aerogel.bench.precision import Kind

# The worker that imports this reads a clock that only inferences move: timings are exact on the busiest machine.
clock = [0.0]


class Runner:
    inputs = [Input("input_ids", "tensor(int64)", ("batch", "sequence"))]
    details = "fake runtime 1.0"

    def __init__(self, seconds, share, outputs):
        self.seconds, self.outputs = seconds, outputs
        time.perf_counter = lambda: clock[0]
        time.process_time = lambda: clock[0] * share

    def run(self, feeds):
        clock[0] += self.seconds
        return self.outputs(feeds["input_ids"].astype(np.float32))


class Fake(Candidate):
    settings = ("default",)
    seconds = {"default": 0.001}
    share = 1.0

    def refuse(self, model):
        return None

    def kind(self, model):
        return Kind(False, "fp32")

    def outputs(self, ids):
        return [ids]

    def open(self, path, threads, setting, batch, seq):
        return Runner(self.seconds[setting], self.share, self.outputs)
"""


@pytest.fixture
def fake_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry[Backend]]:
    """Registry of candidates that only tell times: ``fake_candidates(name="body of a subclass of Fake", ...)``.

    "onnxruntime", which every measurement needs, is a plain Fake unless given.
    """

    def make(**bodies: str) -> Registry[Backend]:
        package = tmp_path / "faked" / "fake_candidates"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "_fake.py").write_text(FAKE)
        for name, body in {"onnxruntime": "pass", **bodies}.items():
            lines = "\n    ".join(body.splitlines())
            (package / f"{name}.py").write_text(
                f"from fake_candidates._fake import *\n\n\nclass C(Fake):\n    {lines}\n\n\nCANDIDATE = C()\n"
            )
        monkeypatch.syspath_prepend(package.parent)
        for module in [name for name in sys.modules if name.partition(".")[0] == "fake_candidates"]:
            monkeypatch.delitem(sys.modules, module)
        return Registry("candidate", "fake_candidates", "CANDIDATE")

    yield make  # type: ignore[misc]  # a generator fixture's value is what it yields
    for module in [name for name in sys.modules if name.partition(".")[0] == "fake_candidates"]:
        del sys.modules[module]
