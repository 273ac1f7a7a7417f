"""The best span of a question's windows, as BERT's script for SQuAD chooses it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.data.features import Features, Outputs
from aerogel.data.qa.windows import Window

__all__ = ["Found", "best_spans"]


@dataclass(frozen=True)
class Found:
    """What a model says to a question.

    Attributes:
        text: the best span; "" if no window has any.
        null: how far the score of "no answer" is above that of the span.
    """

    text: str
    null: float


def best_spans(outputs: Outputs, features: Features, longest: int, n_best: int) -> list[Found]:
    """For each row, the span with the highest start logit + end logit in any of its windows.

    Candidates are the `n_best` highest starts and ends of each window, those of question and special tokens among them,
    which are then dropped. A span begins at a token that no other window shows with more context, ends no earlier, and
    has at most `longest` tokens. "No answer" has the lowest score of the [CLS] token in any window.

    Args:
        outputs: start_logits and end_logits, per window float32 ``[tokens]``.
        features: whose `origin` are the windows.
        longest: tokens of a span.
        n_best: starts, and ends, that are looked at.
    """
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(features.split)
    null = np.full(len(features.split), np.inf)
    windows: list[Window] = features.origin
    for window, start, end in zip(windows, outputs["start_logits"], outputs["end_logits"], strict=True):
        context = features.split.texts[window.row][1]
        score, span = _best(window, start, end, longest, n_best)
        if span is not None and score > best[window.row][0]:
            first, last = (window.offsets[token] for token in span)
            best[window.row] = (score, context[first[0] : last[1]])
        null[window.row] = min(null[window.row], float(start[window.cls]) + float(end[window.cls]))
    return [Found(text, float(none) - score) for (score, text), none in zip(best, null, strict=True)]


def _best(
    window: Window, start: np.ndarray, end: np.ndarray, longest: int, n_best: int
) -> tuple[float, tuple[int, int] | None]:
    """Score and (first, last) context token of the best span of one window; None if there is none."""
    # Stable, so that of equal logits the earlier token is first.
    starts, ends = (np.argsort(-logits, kind="stable")[:n_best] for logits in (start, end))
    scores = start[starts].astype(np.float64)[:, None] + end[ends][None, :]
    first, last = starts[:, None] - window.first, ends[None, :] - window.first
    count = len(window.offsets)
    allowed = np.array([0 <= token < count and window.best[token] for token in first[:, 0]])[:, None]
    allowed = allowed & (first <= last) & (last < count) & (last - first < longest)
    if not allowed.any():
        return -np.inf, None
    row, column = np.unravel_index(np.where(allowed, scores, -np.inf).argmax(), scores.shape)
    return float(scores[row, column]), (int(first[row, 0]), int(last[0, column]))
