"""The interface of a backend: one runtime that a benchmark measures, with the variants to choose from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from aerogel.bench.inputs import Input
from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import Precision

__all__ = ["Backend", "Runner"]


class Runner(Protocol):
    """A loaded model.

    Attributes:
        inputs: the model's inputs, in its own order.
        details: version and mode of the runtime, for the table's caption; may be empty.
    """

    inputs: list[Input]
    details: str

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run one inference and return all outputs, in the model's order."""


class Backend(ABC):
    """One runtime that runs ONNX files.

    Backends load models in worker processes only. The module of a backend must import its runtime inside `open`, not
    at the top.

    Attributes:
        variants: names of the variants to try. With more than one, the harness times all of them during warm-up and
            measures the fastest.
        third_party: whether the runtime is somebody else's. Such a backend is measured only when it is named, and a
            failure skips its row instead of stopping the benchmark.
    """

    variants: tuple[str, ...] = ("default",)
    third_party: bool = False

    @abstractmethod
    def refuse(self, model: OnnxFile) -> str | None:
        """Return the reason why this backend cannot measure `model` on this machine, or None if it can."""

    @abstractmethod
    def precision(self, model: OnnxFile) -> Precision:
        """Return the precision in which this backend computes `model`."""

    def python(self) -> Path | None:
        """Return the interpreter to load the backend in; None for the current one."""
        return None

    def prepare(self, model: Path, variant: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - for backends that convert
        """Convert `model` if needed and return the file to load.

        `folder` is used for this model and backend only. Files in it come from the same model and backend and may be
        reused.

        Raises:
            AerogelError: the model cannot be converted.
        """
        return model

    @abstractmethod
    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:
        """Load the file that `prepare` returned, for `threads` threads and inputs of shape [batch, seq].

        Raises:
            RuntimeLoadError: the runtime rejects the file.
        """
