"""Configurations to measure: every combination of threads, batch sizes and sequence lengths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aerogel.bench.result import Settings
from aerogel.errors import UsageError

__all__ = ["points", "read_lengths"]

# More than any real batch. The limit catches files that are not lists of lengths.
_MAX_LENGTHS = 1_000_000
_MAX_DIGITS = 9


def read_lengths(text: str) -> list[int]:
    """Parse `--lengths`: integers separated by commas, such as 16,40,128, or a file with one integer per line.

    Raises:
        UsageError: `text` is neither, or an entry is not an integer of at least 1.
    """
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        try:
            words = Path(text).read_text(encoding="utf-8-sig").split()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--lengths {text}: must be integers separated by commas, or a readable file ({error})"
            ) from error
    if not 0 < len(words) <= _MAX_LENGTHS:
        raise UsageError(f"--lengths {text}: has {len(words)} lengths; give 1 to {_MAX_LENGTHS}")
    for number, word in enumerate(words, 1):
        if not word.strip().isdecimal() or len(word.strip()) > _MAX_DIGITS or int(word) < 1:
            raise UsageError(
                f"--lengths {text}: entry {number} is {word[:20]!r}; must be an integer of at least 1"
            )
    return [int(word) for word in words]


def points(
    threads: Sequence[int],
    batches: Sequence[int] | None,
    seqs: Sequence[int] | None,
    lengths: Sequence[int] | None,
    settings: Settings,
) -> list[Settings]:
    """Return the settings of every combination. Threads vary slowest.

    Args:
        threads: numbers of threads.
        batches: sequences per inference. None means 1, or the number of `lengths`.
        seqs: tokens per sequence, without padding. None means 128.
        lengths: sequence lengths to use instead of `seqs`. A batch of the same number uses them as given; another
            batch size samples from them, with the seed of `settings`.
        settings: values that all combinations share.

    Raises:
        UsageError: a number is out of range, or both `seqs` and `lengths` are given.
    """
    if not lengths:
        combined = itertools.product(threads, batches or [1], seqs or [128])
        return [replace(settings, threads=t, batch=b, seq=s) for t, b, s in combined]
    if seqs:
        raise UsageError("--lengths and --seq both set the sequence length; give only one of them")
    found = []
    for thread, batch in itertools.product(threads, batches or [len(lengths)]):
        if batch < 1:
            raise UsageError(f"--batch {batch}: must be at least 1")
        sampled = tuple(lengths) if batch == len(lengths) else _sample(lengths, batch, settings.seed)
        found.append(replace(settings, threads=thread, batch=batch, seq=max(sampled), lengths=sampled))
    return found


def _sample(lengths: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    return tuple(int(length) for length in np.random.default_rng(seed).choice(lengths, count))
