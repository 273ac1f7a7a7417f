"""Does the artifact give what PyTorch gives? Compared on tokenised text, never on the artifact's word.

An output ``y`` agrees with its reference ``z`` when, over every batch,

    max |y - z| <= TOLERANCE * max |z|

In float32 one rounding is 6e-8 of a value; an encoder of 12 or 24 layers, summed in another order, ends 5e-7 to 1e-5
away from itself, while a wrong weight, mask or position shows at 1e-3 and above. The tolerance stands between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from aerogel.errors import ParityError
from aerogel.export.capture import Source
from aerogel.export.texts import PAIRS, SENTENCES

__all__ = ["TOLERANCE", "Batch", "Comparison", "Runner", "batches", "compare", "text_batches"]

TOLERANCE = 1e-4

Batch = dict[str, np.ndarray]
Runner = Callable[[Batch], Mapping[str, np.ndarray]]

# Attention grows with the square of the sequence: beyond this, comparing costs minutes and shows nothing new.
_LONGEST = 512
# Tokens compared at once in text files: bounds the memory of both runtimes.
_TOKENS = 4096


@dataclass(frozen=True)
class Comparison:
    """How an artifact's outputs compare with PyTorch's.

    Attributes:
        difference: largest absolute difference over all outputs.
        relative: the same as a fraction of the largest absolute value of the output that it occurred in.
        texts: rows compared.
        shapes: distinct (batch, sequence) shapes compared.
        labels: decisions (largest logit of a row, token or span end) compared; 0 for outputs that decide nothing.
        agreeing: how many of these are the same.
    """

    difference: float
    relative: float
    texts: int
    shapes: int
    labels: int
    agreeing: int


def batches(source: Source) -> Iterator[Batch]:
    """Sentences and pairs in batches of 1 to 8, from one token to the longest sequence (or 512), padded and not."""
    long = min(source.max_length, _LONGEST)
    sentences, (first, second) = list(SENTENCES), ([*texts] for texts in zip(*PAIRS, strict=True))
    # One token alone, then the special tokens without a text between them.
    yield {name: array[:, :1] for name, array in source.tokenize(sentences[:1]).items()}
    yield source.tokenize([""])
    yield source.tokenize(sentences[1:2])
    yield source.tokenize(sentences[2:4])
    yield source.tokenize(first[:3], second[:3])
    yield source.tokenize(sentences[4:12])
    yield source.tokenize(first, second, padding="max_length", max_length=min(128, long))
    # Enough text to fill the longest sequence, beside a short one that is padded to it.
    filling = " ".join(sentences * (1 + long // 128))
    yield source.tokenize([filling, sentences[0]], padding="max_length", max_length=long)


def text_batches(source: Source, texts: list[str], pairs: list[str] | None) -> Iterator[Batch]:
    """All lines of a file, those of like length together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]) + (len(pairs[i]) if pairs else 0))
    # A token takes a character at least.
    rows = max(1, min(32, _TOKENS // source.max_length))
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        yield source.tokenize([texts[i] for i in some], [pairs[i] for i in some] if pairs else None)


def compare(source: Source, inputs: Iterable[Batch], runners: Mapping[str, Runner]) -> dict[str, Comparison]:
    """Run every batch through PyTorch and through each runner of the artifact.

    Raises:
        ParityError: an output is missing, of another shape, not finite, or further off than TOLERANCE.
    """
    results = {name: Comparison(0.0, 0.0, 0, 0, 0, 0) for name in runners}
    shapes = set()
    for batch in inputs:
        reference = source.run(batch)
        shape = batch["input_ids"].shape
        shapes.add(shape)
        for name, run in runners.items():
            where = f"{name}, batch {shape[0]}, sequence {shape[1]}"
            results[name] = _extend(results[name], reference, run(batch), len(shapes), where)
    return results


def _extend(
    sum_: Comparison,
    reference: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    shapes: int,
    where: str,
) -> Comparison:
    """`sum_` with one more batch in it."""
    worst, labels, agreeing = (sum_.relative, sum_.difference), sum_.labels, sum_.agreeing
    for name, expected in reference.items():
        gap, share = _difference(name, expected, got.get(name), where)
        worst = max(worst, (share, gap))
        if name != "last_hidden_state" and expected.shape[-1] > 1:
            same = expected.argmax(-1) == got[name].argmax(-1)
            labels, agreeing = labels + same.size, agreeing + int(same.sum())
    return Comparison(worst[1], worst[0], sum_.texts + len(expected), shapes, labels, agreeing)


def _difference(name: str, expected: np.ndarray, got: np.ndarray | None, where: str) -> tuple[float, float]:
    if got is None or got.shape != expected.shape:
        found = "missing" if got is None else f"of shape {list(got.shape)}"
        raise ParityError(f"output {name} is {found} where PyTorch gives {list(expected.shape)} ({where})")
    gap, scale = float(np.abs(expected - got).max()), float(np.abs(expected).max())
    # Written so that NaN fails.
    if not gap <= TOLERANCE * scale:
        raise ParityError(
            f"output {name} differs from PyTorch's by {gap:.3g} where its largest value is {scale:.3g}; "
            f"{TOLERANCE:g} of that is allowed ({where})"
        )
    return gap, gap / scale if scale else 0.0
