"""What is measured and what came out: settings, runs and the report of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aerogel.bench.precision import Precision
from aerogel.bench.statistics import Latency, Speedup
from aerogel.errors import UsageError
from aerogel.system.seeds import check_seed
from aerogel.system.threads import check_threads

__all__ = ["STOCK", "Report", "Run", "Settings", "Skipped"]

STOCK = "onnxruntime"
"""The candidate whose outputs are taken as right and whose times are the baseline."""


@dataclass(frozen=True)
class Settings:
    """What is measured: `rounds` rounds of `repeats` inferences (None: as many as take half a second).

    Attributes:
        lengths: real tokens of each of the `batch` sequences, the longest of which is `seq`; the others are padded.
            Empty: all are `seq` long.

    Raises:
        UsageError: a number that cannot be meant.
    """

    threads: int = 1
    batch: int = 1
    seq: int = 128
    rounds: int = 10
    repeats: int | None = None
    seed: int = 0
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_threads(self.threads, "--threads")
        for name in ("batch", "seq", "rounds", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value} is out of range; give at least 1")
        check_seed(self.seed)
        if self.lengths and (
            min(self.lengths) < 1 or (len(self.lengths), max(self.lengths)) != (self.batch, self.seq)
        ):
            raise UsageError(
                f"--lengths do not fit: {self.batch} lengths from 1 to {self.seq}, the longest {self.seq}, are needed"
            )

    @property
    def tokens(self) -> int:
        """Real tokens of one inference."""
        return sum(self.lengths) if self.lengths else self.batch * self.seq


@dataclass(frozen=True)
class Skipped:
    """A candidate that had nothing to measure on a model, and why."""

    model: Path
    candidate: str
    reason: str


@dataclass(frozen=True)
class Run:
    """What was measured of one candidate on one model.

    Attributes:
        label: what the model is called in tables.
        kind: what was computed, and so how exact it must be.
        setting: the setting that was measured, the fastest of `tried` (median milliseconds by setting).
        details: what the runtime says of itself.
        size: bytes of the file that was opened.
        open_seconds: time to open the model.
        memory: bytes resident before_load, after_load and after_runs, and at the peak, of the worker process.
        share: CPU seconds per second of wall clock.
        reference: file whose outputs on stock ONNX Runtime were taken as right.
        difference: relative to those (see `compare.difference`); None where the run is that one itself.
        speedup: against the baseline; None where the outputs are wrong.
    """

    model: Path
    label: str
    candidate: str
    kind: Precision
    setting: str
    tried: dict[str, float]
    details: str
    size: int
    open_seconds: float
    memory: dict[str, int]
    share: float
    reference: Path
    difference: float | None
    latency: Latency
    speedup: Speedup | None

    @property
    def correct(self) -> bool:
        """Whether the outputs are the reference's, within the tolerance of the kind."""
        return self.difference is None or self.difference <= self.kind.tolerance


@dataclass(frozen=True)
class Report:
    """One measurement. `baseline` is one of `runs`; `repeats` is the number of inferences in each round."""

    settings: Settings
    repeats: int
    runs: list[Run]
    baseline: Run
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
