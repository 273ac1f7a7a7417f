"""The configurations of the CPU benchmark, and the rows of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from aerogel.bench.cpu.models import Checkpoint, Export
from aerogel.bench.result import STOCK, Settings

__all__ = ["DENSITIES", "Configuration", "Row", "configurations", "mixed_lengths"]

DENSITIES = (5, 10, 20, 40)
"""Percent of weights kept in the plot of latency against density."""

_QUICK_DENSITIES = (10, 40)
_AEROGEL = "aerogel"
# The mixed batch: a median of 24 tokens with a long tail, like sentences.
_MEDIAN, _SPREAD, _SHORTEST, _LONGEST = 24, 0.75, 6, 128


@dataclass(frozen=True)
class Row:
    """A model, its backend, and the model whose outputs on stock ONNX Runtime are the expected ones."""

    export: Export
    backend: str
    reference: Export


@dataclass(frozen=True)
class Configuration:
    """Settings and the rows to measure. The first row is the baseline: stock ONNX Runtime on a dense model."""

    name: str
    title: str
    settings: Settings
    rows: tuple[Row, ...]

    @property
    def exports(self) -> list[Export]:
        """All models of the rows and their references."""
        return [export for row in self.rows for export in (row.export, row.reference)]


def configurations(
    *, quick: bool = False, rounds: int | None = None, large: str = "", small: str = ""
) -> list[Configuration]:
    """Return all configurations, in the order of measurement.

    Args:
        quick: use a small model instead of BERT-base, and few configurations and rounds, to check that everything runs.
        rounds: rounds per configuration. None means 10, or 2 if `quick`.
        large: architecture to measure in every configuration. Empty means BERT-base, or MiniLM if `quick`.
        small: architecture to measure in few configurations. Empty means MiniLM.
    """
    large = large or ("minilm-l6" if quick else "bert-base")
    small = small or "minilm-l6"
    base = Settings(rounds=rounds or (2 if quick else 10), repeats=2 if quick else None)

    def at(threads: int = 1, batch: int = 1, seq: int = 128, lengths: tuple[int, ...] = ()) -> Settings:
        return Settings(threads, batch, seq, base.rounds, base.repeats, base.seed, lengths)

    mixed = mixed_lengths(4 if quick else 32)
    mixed_settings = at(1, len(mixed), max(mixed), mixed)
    found = [
        Configuration("main-1", f"{large}, one thread", at(), _main(large)),
        Configuration("main-2", f"{large}, two threads", at(threads=2), _main(large)),
        Configuration("mixed", f"{large}, mixed lengths", mixed_settings, _shapes(large)),
    ]
    if quick:
        return [found[0], found[2], *(_density(large, percent, at()) for percent in _QUICK_DENSITIES)]
    found += [
        Configuration(
            f"{small}-{threads}", f"{small}, threads: {threads}", at(threads=threads), _small(small)
        )
        for threads in (1, 2)
    ]
    found += [
        Configuration(f"batch-{batch}", f"{large}, batch {batch}", at(batch=batch), _shapes(large))
        for batch in (8, 32)
    ]
    found += [
        Configuration(f"sequence-{seq}", f"{large}, sequence {seq}", at(seq=seq), _shapes(large))
        for seq in (16, 64, 384)
    ]
    return [*found, *(_density(large, percent, at()) for percent in DENSITIES)]


def mixed_lengths(count: int) -> tuple[int, ...]:
    """Return lengths like those of sentences: quantiles of a log-normal distribution, the longest set to 128."""
    quantiles = (NormalDist().inv_cdf((i + 0.5) / count) for i in range(count))
    lengths = [round(_MEDIAN * math.exp(_SPREAD * z)) for z in quantiles]
    return (*(min(max(length, _SHORTEST), _LONGEST) for length in lengths[:-1]), _LONGEST)


def _main(arch: str) -> tuple[Row, ...]:
    """All masks and precisions that a user can choose for one model."""
    rows = [
        *_dense(arch, "1x1", 10, ("", "int8")),
        *_aerogel(arch, "1x1", 10, ("fp32", "fp16", "int8")),
    ]
    for percent in (20, 5):
        rows += [*_deepsparse(arch, "1x1", percent, ("",)), *_aerogel(arch, "1x1", percent, ("fp32",))]
    rows += [*_deepsparse(arch, "4x1", 10, ("",)), *_aerogel(arch, "4x1", 10, ("fp32",))]
    return (*rows, *_deepsparse(arch, "1x4", 10, ("int8",)), *_aerogel(arch, "1x4", 10, ("int8",)))


def _shapes(arch: str) -> tuple[Row, ...]:
    """One density, for other batch sizes and lengths."""
    return (
        *_dense(arch, "1x1", 10, ("", "int8")),
        *_aerogel(arch, "1x1", 10, ("fp32", "int8")),
        *_deepsparse(arch, "4x1", 10, ("",)),
        *_aerogel(arch, "4x1", 10, ("fp32",)),
        *_aerogel(arch, "1x4", 10, ("int8",)),
    )


def _small(arch: str) -> tuple[Row, ...]:
    return (
        *_dense(arch, "1x1", 10, ("", "int8")),
        *_aerogel(arch, "1x1", 10, ("fp32", "int8")),
        *_deepsparse(arch, "1x4", 10, ("int8",)),
        *_aerogel(arch, "1x4", 10, ("int8",)),
    )


def _density(arch: str, percent: int, settings: Settings) -> Configuration:
    """A dense model in float32 and int8, and one model of each mask at this density, each its own reference."""
    dense = Export(Checkpoint(arch, "1x1", 10), "dense")
    rows = [Row(dense, name, dense) for name in (STOCK, "onnxruntime-int8", "openvino-int8")]
    if percent in (5, 10, 20):
        rows += _deepsparse(arch, "1x1", percent, ("",))
    for block, weights in (("1x1", "fp32"), ("4x1", "fp32"), ("1x1", "int8"), ("1x4", "int8")):
        export = _aerogel(arch, block, percent, (weights,))[0].export
        rows.append(Row(export, _AEROGEL, export))
    return Configuration(
        f"density-{percent:02d}", f"{arch}, {percent}% of weights kept", settings, tuple(rows)
    )


def _dense(arch: str, block: str, percent: int, sparse: tuple[str, ...]) -> list[Row]:
    """Every other backend on one dense export, stock ONNX Runtime first."""
    dense = Export(Checkpoint(arch, block, percent), "dense")
    names = (STOCK, "openvino", "openvino-bf16", "onnxruntime-int8", "openvino-int8")
    return [*(Row(dense, name, dense) for name in names), *_deepsparse(arch, block, percent, sparse)]


def _deepsparse(arch: str, block: str, percent: int, precisions: tuple[str, ...]) -> list[Row]:
    dense = Export(Checkpoint(arch, block, percent), "dense")
    return [Row(dense, f"deepsparse-{word}" if word else "deepsparse", dense) for word in precisions]


def _aerogel(arch: str, block: str, percent: int, weights: tuple[str, ...]) -> list[Row]:
    """The sparse exports of a checkpoint; those with int8 matrices have int8 embeddings."""
    checkpoint = Checkpoint(arch, block, percent)
    format = "csr" if block == "1x1" else "bsr"
    exports = [Export(checkpoint, format, word, "int8" if word == "int8" else "fp32") for word in weights]
    return [Row(export, _AEROGEL, Export(checkpoint, "dense")) for export in exports]
