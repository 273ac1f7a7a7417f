"""The DeepSparse engine (last release: 1.8), for one request at a time and fixed shapes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench.backend import Runner
from aerogel.bench.inputs import Input
from aerogel.bench.third_party import ThirdPartyBackend
from aerogel.errors import RuntimeLoadError

__all__ = ["DeepSparse"]


class DeepSparse(ThirdPartyBackend):
    """Runs a dense export; the engine finds the zeros when it compiles the model.

    Its scheduler "single_stream" runs one request at a time; "elastic" takes as long.
    """

    variants = ("single_stream",)
    package = "deepsparse"
    install = "deepsparse==1.8.0 'numpy<2'"
    python_command = "python3.11"

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:
        """Compile for one batch size and `threads` cores."""
        # Without this, the community build sends usage data.
        os.environ["NM_DISABLE_ANALYTICS"] = "1"
        engine = self.import_package()
        try:
            # The argument input_shapes is not used: it rewrites the model's file in place.
            opened = engine.Engine(str(path), batch_size=batch, num_cores=threads, scheduler=variant)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RuntimeLoadError(f"DeepSparse cannot load {path}: {reason}") from error
        return _Engine(engine, opened, (batch, seq))


class _Engine:
    """A compiled engine."""

    def __init__(self, package: Any, engine: Any, shape: tuple[int, int]) -> None:
        self._engine = engine
        self.inputs = [Input(name, "tensor(int64)", shape) for name in engine.input_names]
        supported = f"{engine.fraction_of_supported_ops:.1%} of operators supported"
        self.details = f"DeepSparse {package.__version__} ({supported})"

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run one inference and return all outputs, in the model's order."""
        outputs = self._engine.run([feeds[item.name] for item in self.inputs], val_inp=False)
        return [np.asarray(output) for output in outputs]
