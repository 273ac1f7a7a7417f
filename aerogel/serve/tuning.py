"""Choose the workers, threads and batch size of a model by measuring."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aerogel.model import Encoded, Model
from aerogel.serve.engine import Layout

__all__ = ["candidates", "choose", "measure_batches"]

Load = Callable[[int], Model]
"""Load the model with a number of threads."""

# Tokens of a text in the measurements: the length of a sentence.
_TEXT = 32
# Sizes of batches to measure, in tokens.
_SIZES = (128, 256, 512, 1024, 2048, 4096, 8192)
# The smallest batch with this part of the highest rate is chosen: larger ones only add latency.
_ENOUGH = 0.97
# Measurements of a batch; the fastest counts, because other programs only slow a measurement down.
_REPEATS = 3
# How much faster fewer workers with more threads must be: measurements vary, and one long text blocks fewer of many.
_BETTER = 1.1
# Seconds for which each split of the cores is measured.
_SPLIT_SECONDS = 0.15


def candidates(cores: int) -> list[tuple[int, int]]:
    """Pairs of (workers, threads) that use all cores, the most workers first."""
    return [(cores // threads, threads) for threads in (1, 2, 4, 8) if cores % threads == 0]


def choose(
    load: Load, pairs: list[tuple[int, int]], *, batch_tokens: int | None, batch_seconds: float
) -> tuple[Model, Layout]:
    """Measure pairs of (workers, threads) and return the fastest one with its model.

    Args:
        load: loads the model.
        pairs: the pairs to measure; a single one is used as it is.
        batch_tokens: tokens of a batch; None measures the size too.
        batch_seconds: longest time of a batch whose size is measured.
    """
    best: tuple[Model, Layout] | None = None
    for workers, threads in pairs:
        model = load(threads)
        if batch_tokens is None:
            size, _ = measure_batches(model, batch_seconds)
        else:
            size = batch_tokens
            _seconds(model, min(size, _SIZES[-1]))
        layout = Layout(workers, threads, size, _rate(model, workers, min(size, _SIZES[-1])))
        if best is not None and layout.rate * workers <= _BETTER * best[1].rate * best[1].workers:
            model.close()
            continue
        if best is not None:
            best[0].close()
        best = model, layout
    assert best is not None
    return best


def measure_batches(model: Model, batch_seconds: float) -> tuple[int, float]:
    """The smallest number of tokens in a batch that has nearly the highest rate, and that rate in tokens per second.

    Args:
        model: the model, which is also warmed up.
        batch_seconds: batches that take longer are not considered, except for the smallest.
    """
    _seconds(model, _SIZES[0])
    rates: dict[int, float] = {}
    for size in _SIZES:
        if rates and size > model.max_batch_tokens:
            break
        seconds = min(_seconds(model, size) for _ in range(_REPEATS))
        if rates and seconds > batch_seconds:
            break
        rates[size] = size / seconds
    enough = _ENOUGH * max(rates.values())
    return next((size, rate) for size, rate in rates.items() if rate >= enough)


def _texts(model: Model, tokens: int) -> list[Encoded]:
    """Texts with `tokens` tokens in all."""
    length = min(_TEXT, model.max_length)
    rows = max(1, tokens // length)
    rows = min(rows, model.max_rows or rows)
    types = np.zeros(length, np.int32) if "token_type_ids" in model.inputs else None
    return [Encoded("", np.ones(length, np.int32), types)] * rows


def _seconds(model: Model, tokens: int) -> float:
    texts = _texts(model, tokens)
    began = time.perf_counter()
    model.run_batch(texts)
    return time.perf_counter() - began


def _rate(model: Model, workers: int, tokens: int) -> float:
    """Tokens per second of one worker while `workers` work at the same time."""
    texts = _texts(model, tokens)
    until = time.perf_counter() + _SPLIT_SECONDS

    def work(_: int) -> float:
        done, began = 0, time.perf_counter()
        while not done or time.perf_counter() < until:
            model.run_batch(texts)
            done += sum(map(len, texts))
        return done / (time.perf_counter() - began)

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(work, range(workers))) / workers
