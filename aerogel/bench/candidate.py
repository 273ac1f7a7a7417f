"""What a candidate is: one way to run an ONNX file, with the settings worth trying."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from aerogel.bench.inputs import Input
from aerogel.bench.model import OnnxFile

__all__ = ["Candidate", "Runner"]


class Runner(Protocol):
    """A model that has been opened and can be run.

    Attributes:
        inputs: what the model wants, in its own order.
    """

    inputs: list[Input]

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """One inference: all outputs, in the model's order."""


class Candidate(ABC):
    """One way to run an ONNX file.

    Candidates are opened only inside worker processes, so a candidate's module may import its runtime when it
    is opened, never at its top.

    Attributes:
        settings: names of the settings worth trying. Where there are several, the harness times them
            all while it warms up and measures the fastest.
    """

    settings: tuple[str, ...] = ("default",)

    @abstractmethod
    def refuse(self, model: OnnxFile) -> str | None:
        """Why this candidate has nothing to measure on `model` here, or None if it has."""

    @abstractmethod
    def open(self, path: Path, threads: int, setting: str) -> Runner:
        """Load a model for `threads` threads.

        Raises:
            RuntimeLoadError: the runtime refuses the file.
        """
