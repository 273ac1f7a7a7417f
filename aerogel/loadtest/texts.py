"""Texts of requests: lines of a file, or words whose number follows a log-normal distribution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel.errors import UsageError
from aerogel.system.text import read_lines

__all__ = ["Lengths", "texts_from_file", "texts_from_lengths"]

# Words that are one token in the vocabularies of BERT, RoBERTa and their relatives.
_WORDS = (
    "the of and to in is was for that on as with by he at from his it an are were which this be or had "
    "first one their its new after but who not they have two her she been other when time during there into all "
    "may more school years over only year most would world city some where between later three state such then "
    "national used made known under many university up people end film made music house river war team game"
)
# Special tokens of one text.
_SPECIAL = 2


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths in tokens, special tokens included: log-normal, rounded and cut off.

    Attributes:
        median: median number of tokens.
        sigma: standard deviation of the logarithm.
        most: largest number of tokens.
    """

    median: float = 24
    sigma: float = 0.6
    most: int = 512

    def __post_init__(self) -> None:
        if not 3 <= self.median <= self.most:
            raise UsageError(f"--tokens {self.median}: must be from 3 to --max-tokens, {self.most}")
        if not 0 <= self.sigma <= 4:
            raise UsageError(f"--sigma {self.sigma}: must be from 0 to 4")


def texts_from_lengths(lengths: Lengths, count: int, seed: int) -> list[str]:
    """Texts of common words, one token each."""
    random = np.random.default_rng(seed)
    drawn = lengths.median * np.exp(lengths.sigma * random.standard_normal(count))
    sizes = np.clip(np.rint(drawn), _SPECIAL + 1, lengths.most).astype(int) - _SPECIAL
    words = np.array(_WORDS.split())
    return [" ".join(words[random.integers(len(words), size=size)]) for size in sizes]


def texts_from_file(path: Path, count: int, seed: int) -> list[str]:
    """Lines of a file that are not empty, drawn with replacement.

    Raises:
        DataError: the file cannot be read.
        UsageError: all lines are empty.
    """
    lines = [line.text for line in read_lines(path, whole=True) if line.text.strip()]
    if not lines:
        raise UsageError(f"--texts {path}: no texts; give a file with one text per line")
    return [lines[index] for index in np.random.default_rng(seed).integers(len(lines), size=count)]
