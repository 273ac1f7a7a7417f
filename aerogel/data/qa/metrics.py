"""Exact match and F1 as SQuAD's official scripts define them, from 0 to 1.

Answers are normalised first: lower case, no ASCII punctuation, no articles, single blanks. Each question scores against
its best-matching true answer. The two scripts differ if an answer is empty after normalisation: version 1.1 gives
F1 = 0, version 2.0 gives F1 = 1 if both answers are empty.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from aerogel.data.qa.question import Question

__all__ = ["normalise", "score_v1", "score_v2"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Normalise an answer for comparison."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def score_v1(predictions: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """Compute `exact_match` and `f1` of version 1.1."""
    pairs = [
        (
            max(_exact(text, truth) for truth in question.answers),
            max(_overlap(text, truth) for truth in question.answers),
        )
        for text, question in zip(predictions, questions, strict=True)
    ]
    return _mean("", pairs)


def score_v2(predictions: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """Compute `exact_match` and `f1` of version 2.0, for all questions, for answerable and for unanswerable ones.

    The prediction "" means that the question has no answer.
    """
    answered: list[tuple[float, float]] = []
    unanswerable: list[tuple[float, float]] = []
    for text, question in zip(predictions, questions, strict=True):
        # Like the official script, drop true answers that are empty after normalisation; if no answer remains, use "".
        truths = [truth for truth in question.answers if normalise(truth)] or [""]
        pair = max(_exact(text, truth) for truth in truths), max(_f1_v2(text, truth) for truth in truths)
        (answered if question.answers else unanswerable).append(pair)
    return (
        _mean("", answered + unanswerable)
        | _mean("has_answer_", answered)
        | _mean("no_answer_", unanswerable)
    )


def _mean(prefix: str, pairs: list[tuple[float, float]]) -> dict[str, float]:
    if not pairs:
        return {}
    exact, overlap = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return {f"{prefix}exact_match": exact, f"{prefix}f1": overlap}


def _exact(prediction: str, truth: str) -> float:
    return float(normalise(prediction) == normalise(truth))


def _overlap(prediction: str, truth: str) -> float:
    """Compute F1 over the words as multisets."""
    predicted, true = normalise(prediction).split(), normalise(truth).split()
    common = sum((Counter(predicted) & Counter(true)).values())
    return 2 * common / (len(predicted) + len(true)) if common else 0.0


def _f1_v2(prediction: str, truth: str) -> float:
    if not normalise(prediction) or not normalise(truth):
        return _exact(prediction, truth)
    return _overlap(prediction, truth)
