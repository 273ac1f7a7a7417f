"""Does the artifact give what PyTorch gives? Compared on tokenised text, never on the artifact's word.

An output ``y`` agrees with its reference ``z`` when, over all batches of a set of texts,

    max |y - z| <= TOLERANCE * max |z|

In float32 one rounding is 6e-8 of a value; an encoder of 12 or 24 layers, summed in another order, ends 5e-7 to 1e-5
away from itself, while a wrong weight, mask or position shows at 1e-3 and above. The tolerance stands between.

An artifact of rounded weights is compared with PyTorch on the same rounded weights. One whose kernels round activations
too is a harder case. Wherever float32 noise moves an activation across the middle between two integers, one side rounds
up and the other down; that is a step of a 127th of the token's largest value, it makes the layers after it differ by
more than noise, and these then round more of theirs apart: two correct computations drift apart by as much as rounding
itself moves them. So with ``ties``, where w is the output of the model without any rounding, what must hold is

    max |y - z| <= max(TOLERANCE * max |z|, ROUNDING * max |z - w|)

Of an output per token only the real tokens count, those where attention_mask is not 0: what stands at padding means
nothing, and is zeros where a fused encoder computes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from aerogel.errors import ParityError
from aerogel.export.reference_model import ReferenceModel
from aerogel.export.verification_samples import PAIRS, SENTENCES

__all__ = ["ROUNDING", "Batch", "Comparison", "Runner", "batches", "compare", "text_batches"]

ROUNDING = 2.0

Batch = dict[str, np.ndarray]
VECTORS = ("last_hidden_state", "sentence_embedding", "token_embeddings", "sparse_embedding")
"""Outputs that decide nothing: no label is compared."""

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
        mean: mean absolute difference over all outputs.
        allowed: what `relative` could have been; None where anything could.
        drift: how the outputs compare with those of the checkpoint as it is, where the artifact rounds its weights.
    """

    difference: float
    relative: float
    texts: int
    shapes: int
    labels: int
    agreeing: int
    mean: float
    allowed: float | None
    drift: Comparison | None = None


def batches(source: ReferenceModel) -> Iterator[Batch]:
    """Sentences and pairs in batches of 1 to 8, from one token to the longest sequence (or 512), padded and not."""
    long = min(source.max_length, _LONGEST)
    sentences, (first, second) = list(SENTENCES), ([*texts] for texts in zip(*PAIRS, strict=True))
    # One token alone, then the special tokens without a text between them.
    if source.fixed[1] is None:
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


def text_batches(source: ReferenceModel, texts: list[str], pairs: list[str] | None) -> Iterator[Batch]:
    """All lines of a file, those of like length together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]) + (len(pairs[i]) if pairs else 0))
    # A token takes a character at least.
    rows = max(1, min(32, _TOKENS // source.max_length))
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        yield source.tokenize([texts[i] for i in some], [pairs[i] for i in some] if pairs else None)


def compare(
    source: ReferenceModel,
    inputs: Iterable[Batch],
    runners: Mapping[str, Runner],
    per_token: Collection[str] = (),
    original: ReferenceModel | None = None,
    *,
    ties: bool = False,
) -> dict[str, Comparison]:
    """Run every batch through PyTorch and through each runner of the artifact.

    Args:
        source: the PyTorch model.
        inputs: batches that it takes.
        runners: ways to run the artifact, by name.
        per_token: names of the outputs ``[batch, sequence, ...]``, which are compared at real tokens only.
        original: the model before its weights were rounded, if `source` is one with rounded weights.
        ties: the artifact rounds activations, see the module's docstring.

    Raises:
        ParityError: an output is missing, of another shape, not finite, or further off than allowed.
    """
    tallies = {name: _Tally(name, per_token) for name in runners}
    drifts = {name: _Tally(name, per_token) for name in runners} if original else {}
    rounding = _Tally("PyTorch with rounded weights", per_token)
    for batch in inputs:
        reference = source.run(batch)
        unrounded = original.run(batch) if original else {}
        rounding.add(batch, unrounded, reference)
        for name, run in runners.items():
            got = run(batch)
            tallies[name].add(batch, reference, got)
            if drifts:
                drifts[name].add(batch, unrounded, got)
    slack = {name: ROUNDING * gap for name, (gap, _) in rounding.gaps.items()} if ties else {}
    return {
        name: tally.result(
            {
                name: max(source.tolerance * scale, slack.get(name, 0.0))
                for name, scale in tally.scales.items()
            },
            drifts[name].result() if drifts else None,
        )
        for name, tally in tallies.items()
    }


class _Tally:
    """What one runner's outputs come to, batch by batch."""

    def __init__(self, runner: str, per_token: Collection[str]) -> None:
        self.runner = runner
        self.per_token = per_token
        # Per output: its largest value, its largest difference, and where that was.
        self.scales: dict[str, float] = {}
        self.gaps: dict[str, tuple[float, str]] = {}
        self.shapes: set[tuple[int, ...]] = set()
        self.texts = self.labels = self.agreeing = self.values = 0
        self.total = 0.0

    def add(self, batch: Batch, reference: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> None:
        """Count one batch of (texts, tokens)."""
        shape = batch["input_ids"].shape
        where = f"{self.runner}, batch {shape[0]}, sequence {shape[1]}"
        self.shapes.add(shape)
        self.texts += shape[0]
        for name, expected in reference.items():
            found = got.get(name)
            if found is None or found.shape != expected.shape:
                what = "missing" if found is None else f"of shape {list(found.shape)}"
                raise ParityError(
                    f"output {name} is {what} where PyTorch gives {list(expected.shape)} ({where})"
                )
            for side, values in (("PyTorch's", expected), ("the artifact's", found)):
                if not np.isfinite(values).all():
                    raise ParityError(f"{side} output {name} is not finite ({where})")
            real = batch["attention_mask"] != 0 if name in self.per_token else None
            counted = ... if real is None else real
            gaps, scale = np.abs(expected - found)[counted], float(np.abs(expected[counted]).max())
            gap = float(gaps.max())
            self.total, self.values = self.total + float(gaps.sum(dtype=np.float64)), self.values + gaps.size
            self.gaps[name] = max(self.gaps.get(name, (0.0, where)), (gap, where))
            self.scales[name] = max(self.scales.get(name, 0.0), scale)
            if name not in VECTORS and expected.shape[-1] > 1:
                same = _decisions(expected, real) == _decisions(found, real)
                self.labels, self.agreeing = self.labels + same.size, self.agreeing + int(same.sum())

    def result(
        self, allowed: Mapping[str, float] | None = None, drift: Comparison | None = None
    ) -> Comparison:
        """Judge the differences against those `allowed` per output, None for any."""
        relative, difference, share = 0.0, 0.0, 0.0
        for name, (gap, where) in self.gaps.items():
            scale = self.scales[name]
            bound = allowed[name] if allowed is not None else math.inf
            if gap > bound:
                raise ParityError(
                    f"output {name} differs from PyTorch's by {gap:.3g} where its largest value is {scale:.3g}; "
                    f"{bound / scale if scale else 0:.3g} of that is allowed ({where})"
                )
            if scale and gap / scale >= relative:
                relative, difference, share = gap / scale, gap, bound / scale
        return Comparison(
            difference=difference,
            relative=relative,
            texts=self.texts,
            shapes=len(self.shapes),
            labels=self.labels,
            agreeing=self.agreeing,
            mean=self.total / max(self.values, 1),
            allowed=None if allowed is None else share,
            drift=drift,
        )


def _decisions(values: np.ndarray, real: np.ndarray | None) -> np.ndarray:
    """The largest entry of each row, of each real token, or (a score per token) the real token that has it."""
    if real is not None:
        values = np.where(real, values, -np.inf) if values.ndim == 2 else values[real]
    largest: np.ndarray = values.argmax(-1)
    return largest
