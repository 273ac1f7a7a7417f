"""Points to measure at: threads, batches and lengths, each a list, every combination a point."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aerogel.bench.result import Settings
from aerogel.errors import UsageError

__all__ = ["points", "read_lengths"]

# No batch that anyone measures is longer; a file that is no list of lengths often is.
_MOST_LENGTHS = 1_000_000
_LONGEST_NUMBER = 9


def read_lengths(text: str) -> list[int]:
    """Lengths written 16,40,128, or one in each line of the file that `text` names.

    Raises:
        UsageError: neither.
    """
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        try:
            words = Path(text).read_text(encoding="utf-8-sig").split()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--lengths {text} is neither whole numbers with commas between nor a readable file ({error})"
            ) from error
    if not 0 < len(words) <= _MOST_LENGTHS:
        raise UsageError(f"--lengths {text} names {len(words)} lengths; give 1 to {_MOST_LENGTHS}")
    for number, word in enumerate(words, 1):
        if not word.strip().isdecimal() or len(word.strip()) > _LONGEST_NUMBER or int(word) < 1:
            raise UsageError(f"--lengths {text}: entry {number} is {word[:20]!r}; give whole numbers from 1")
    return [int(word) for word in words]


def points(
    threads: Sequence[int],
    batches: Sequence[int] | None,
    seqs: Sequence[int] | None,
    lengths: Sequence[int] | None,
    settings: Settings,
) -> list[Settings]:
    """Every combination, threads changing slowest.

    Args:
        threads: numbers of threads.
        batches: sequences per inference; None: 1, or as many as there are `lengths`.
        seqs: tokens per sequence, without padding; None: 128.
        lengths: instead of `seqs`, lengths from which each batch is drawn at random by the seed; a batch of as many
            as there are takes them as they are.
        settings: what is the same for all points.

    Raises:
        UsageError: a number out of range, or both `seqs` and `lengths`.
    """
    if not lengths:
        combined = itertools.product(threads, batches or [1], seqs or [128])
        return [replace(settings, threads=t, batch=b, seq=s) for t, b, s in combined]
    if seqs:
        raise UsageError("--lengths say how long sequences are; leave --seq out")
    found = []
    for thread, batch in itertools.product(threads, batches or [len(lengths)]):
        if batch < 1:
            raise UsageError(f"--batch {batch} is out of range; give at least 1")
        drawn = tuple(lengths) if batch == len(lengths) else _draw(lengths, batch, settings.seed)
        found.append(replace(settings, threads=thread, batch=batch, seq=max(drawn), lengths=drawn))
    return found


def _draw(lengths: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    return tuple(int(length) for length in np.random.default_rng(seed).choice(lengths, count))
