"""Settings of a benchmark, and its results."""

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
"""Backend whose outputs are the expected ones and whose latency is the baseline."""


@dataclass(frozen=True)
class Settings:
    """One configuration: threads, batch and sequence lengths, and how often to measure.

    Attributes:
        threads: threads inside one inference.
        batch: sequences per inference.
        seq: tokens per sequence, padding included.
        rounds: rounds; every backend takes its turn in each.
        repeats: iterations per round. None means as many as take half a second.
        seed: seed of the random token ids.
        lengths: real tokens of each of the `batch` sequences, the longest of which is `seq`; the others are padded.
            Empty means that all are `seq` tokens long.

    Raises:
        UsageError: a number is out of range.
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
                raise UsageError(f"--{name} {value}: must be at least 1")
        check_seed(self.seed)
        if self.lengths and (
            min(self.lengths) < 1 or (len(self.lengths), max(self.lengths)) != (self.batch, self.seq)
        ):
            raise UsageError(
                f"--lengths: must be {self.batch} integers from 1 to {self.seq}, the longest {self.seq}"
            )

    @property
    def tokens(self) -> int:
        """Real tokens of one inference."""
        return sum(self.lengths) if self.lengths else self.batch * self.seq


@dataclass(frozen=True)
class Skipped:
    """A model and backend that were not measured, with the reason."""

    model: Path
    backend: str
    reason: str


@dataclass(frozen=True)
class Run:
    """Result of one model on one backend.

    Attributes:
        model: the file that was asked for.
        label: the model's name in tables.
        backend: name of the backend.
        precision: arithmetic of the run, which sets the tolerance of its outputs.
        variant: the variant that was measured: the fastest of `variant_ms`.
        variant_ms: median milliseconds of each variant during warm-up; empty if there is only one.
        details: version and mode that the runtime reports.
        size: bytes of the file that was loaded, external data included.
        load_seconds: seconds to load the model.
        memory: RSS of the worker process in bytes: before_load, after_load, after_runs and peak.
        cpu_utilization: CPU seconds per second of wall clock.
        reference: file whose outputs on stock ONNX Runtime are the expected ones.
        relative_error: see `compare.relative_error`; None for the reference's own run.
        latency: see `Latency`.
        speedup: over the baseline; None if the outputs are wrong.
    """

    model: Path
    label: str
    backend: str
    precision: Precision
    variant: str
    variant_ms: dict[str, float]
    details: str
    size: int
    load_seconds: float
    memory: dict[str, int]
    cpu_utilization: float
    reference: Path
    relative_error: float | None
    latency: Latency
    speedup: Speedup | None

    @property
    def correct(self) -> bool:
        """Whether the outputs agree with the reference's, within the tolerance of the precision."""
        return self.relative_error is None or self.relative_error <= self.precision.tolerance


@dataclass(frozen=True)
class Report:
    """Results of one configuration.

    Attributes:
        settings: the configuration.
        iterations: iterations per round that were run.
        runs: one result per row, in the order of the table.
        baseline: the run of `runs` with speed-up 1.
        skipped: rows that were not measured.
        warnings: reasons to doubt the numbers.
    """

    settings: Settings
    iterations: int
    runs: list[Run]
    baseline: Run
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
