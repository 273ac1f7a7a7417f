"""What a candidate is: one way to run an ONNX file, with the settings worth trying."""

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
    """A model that has been opened and can be run.

    Attributes:
        inputs: what the model wants, in its own order.
        details: what a reader should know of how the runtime runs it; may be empty.
    """

    inputs: list[Input]
    details: str

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """One inference: all outputs, in the model's order."""


class Backend(ABC):
    """One way to run an ONNX file.

    Candidates are opened only inside worker processes, so a candidate's module may import its runtime when it
    is opened, never at its top.

    Attributes:
        settings: names of the settings worth trying. Where there are several, the harness times them
            all while it warms up and measures the fastest.
        rival: whether it belongs to somebody else: measured only when asked for, and no error where it fails.
    """

    settings: tuple[str, ...] = ("default",)
    rival: bool = False

    @abstractmethod
    def refuse(self, model: OnnxFile) -> str | None:
        """Why this candidate has nothing to measure on `model` here, or None if it has."""

    @abstractmethod
    def kind(self, model: OnnxFile) -> Precision:
        """What it computes on `model`."""

    def python(self) -> Path | None:
        """The interpreter to open it in; None: this one."""
        return None

    def prepare(self, model: Path, setting: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - for those that convert
        """The file to open, made from `model` in `folder`, which is this model's and candidate's own.

        Files already in `folder` were made from the same model by the same candidate and may be used again.

        Raises:
            AerogelError: the model cannot be converted.
        """
        return model

    @abstractmethod
    def open(self, path: Path, threads: int, setting: str, batch: int, seq: int) -> Runner:
        """Load what `prepare` gave for `threads` threads; it will be run at [batch, seq] only.

        Raises:
            RuntimeLoadError: the runtime refuses the file.
        """
