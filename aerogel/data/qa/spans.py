"""Choose the best answer span of a question's windows, as BERT's SQuAD script does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.data.features import Features, Outputs
from aerogel.data.qa.windows import Window

__all__ = ["Found", "best_spans"]


@dataclass(frozen=True)
class Found:
    """Prediction for one question.

    Attributes:
        text: text of the best span; "" if no window has a valid span.
        null: score of "no answer" minus the score of the span.
    """

    text: str
    null: float


def best_spans(outputs: Outputs, features: Features, max_tokens: int, n_best: int) -> list[Found]:
    """Choose for each row the span with the highest start logit + end logit over all its windows.

    Candidates are combinations of the `n_best` highest starts and ends of each window, without tokens of the question
    and special tokens. A span must begin at a token that no other window shows with more context, must not end before
    it begins, and has at most `max_tokens` tokens. The score of "no answer" is the lowest [CLS] score of the windows.

    Args:
        outputs: start_logits and end_logits, float32 ``[tokens]`` per window.
        features: features whose `origin` is the list of windows.
        max_tokens: maximum tokens of a span.
        n_best: number of starts and of ends to combine.
    """
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(features.split)
    null = np.full(len(features.split), np.inf)
    windows: list[Window] = features.origin
    for window, start, end in zip(windows, outputs["start_logits"], outputs["end_logits"], strict=True):
        context = features.split.texts[window.row][1]
        score, span = _best(window, start, end, max_tokens, n_best)
        if span is not None and score > best[window.row][0]:
            first, last = (window.offsets[token] for token in span)
            best[window.row] = (score, context[first[0] : last[1]])
        null[window.row] = min(null[window.row], float(start[window.cls]) + float(end[window.cls]))
    return [Found(text, float(none) - score) for (score, text), none in zip(best, null, strict=True)]


def _best(
    window: Window, start: np.ndarray, end: np.ndarray, max_tokens: int, n_best: int
) -> tuple[float, tuple[int, int] | None]:
    """Return the score and (first, last) context token of a window's best span; None without a valid span."""
    # A stable sort prefers the earlier of two tokens with equal logits.
    starts, ends = (np.argsort(-logits, kind="stable")[:n_best] for logits in (start, end))
    scores = start[starts].astype(np.float64)[:, None] + end[ends][None, :]
    first, last = starts[:, None] - window.first, ends[None, :] - window.first
    count = len(window.offsets)
    allowed = np.array([0 <= token < count and window.best[token] for token in first[:, 0]])[:, None]
    allowed = allowed & (first <= last) & (last < count) & (last - first < max_tokens)
    if not allowed.any():
        return -np.inf, None
    row, column = np.unravel_index(np.where(allowed, scores, -np.inf).argmax(), scores.shape)
    return float(scores[row, column]), (int(first[row, 0]), int(last[0, column]))
