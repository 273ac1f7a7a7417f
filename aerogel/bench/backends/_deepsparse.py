"""The DeepSparse engine, whose last release is 1.8: one request at a time, fixed shapes."""

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
    """A dense export whose zeros the engine finds when it compiles the model.

    One request at a time is what its scheduler "single_stream" is for; "elastic" takes as long.
    """

    settings = ("single_stream",)
    package = "deepsparse"
    install = "deepsparse==1.8.0 'numpy<2'"
    needs = "python3.11"

    def open(self, path: Path, threads: int, setting: str, batch: int, seq: int) -> Runner:
        """Compile for one batch size and `threads` cores."""
        # The community build sends usage data otherwise.
        os.environ["NM_DISABLE_ANALYTICS"] = "1"
        engine = self.runtime()
        try:
            # Not its argument input_shapes: that rewrites the model's file in place.
            opened = engine.Engine(str(path), batch_size=batch, num_cores=threads, scheduler=setting)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RuntimeLoadError(f"{path} cannot be loaded by DeepSparse: {reason}") from error
        return _Engine(engine, opened, (batch, seq))


class _Engine:
    """A compiled engine."""

    def __init__(self, package: Any, engine: Any, shape: tuple[int, int]) -> None:
        self._engine = engine
        self.inputs = [Input(name, "tensor(int64)", shape) for name in engine.input_names]
        self.details = (
            f"DeepSparse {package.__version__} ({engine.fraction_of_supported_ops:.1%} of operators its own)"
        )

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """One inference: all outputs, in the model's order."""
        outputs = self._engine.run([feeds[item.name] for item in self.inputs], val_inp=False)
        return [np.asarray(output) for output in outputs]
