"""Extractive question answering: answers are spans of the context."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aerogel.errors import UsageError
from aerogel.model.batch import Batch, Call
from aerogel.model.heads._windows import Window, make_windows
from aerogel.model.results import Answer
from aerogel.model.task import Task
from aerogel.model.texts import check_text

__all__ = ["HEAD", "AnswerHead"]

_OUTPUTS = ("start_logits", "end_logits")


class AnswerHead(Task):
    """Outputs float ``[batch, sequence]``: start_logits and end_logits."""

    RANKS = (2,)
    PER_TOKEN = True

    def outputs(self) -> tuple[str, ...]:
        """See `Task.outputs`."""
        return _OUTPUTS

    def answer(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        max_answer_length: int = 30,
        stride: int = 128,
        null_threshold: float | None = None,
    ) -> Call:
        """See `aerogel.Model.answer`."""
        for name, number in (("top_k", top_k), ("max_answer_length", max_answer_length), ("stride", stride)):
            if type(number) is not int or number < 1:
                raise UsageError(f"{name}={number!r} must be an integer from 1")
        check_text(question, "question")
        check_text(context, "context")
        core = self._core
        windows = make_windows(
            core.tokenizer, question, context, stride, types="token_type_ids" in core.inputs
        )

        def finish(batches: Iterable[Batch]) -> list[Answer]:
            logits: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * len(windows)
            for batch in batches:
                for (row, start), (_, end) in zip(batch.each_token(0), batch.each_token(1), strict=True):
                    logits[row] = start.astype(np.float64), end.astype(np.float64)
            return _choose(windows, logits, context, top_k, max_answer_length, null_threshold)

        return self._call([window.encoded for window in windows], finish)


def _choose(
    windows: list[Window],
    logits: list[tuple[np.ndarray, np.ndarray]],
    context: str,
    top_k: int,
    longest: int,
    null_threshold: float | None,
) -> list[Answer]:
    """The best spans of all windows by start logit + end logit.

    A score is the probability of the start times that of the end. Both are softmaxes over the tokens of all windows and
    the "no answer" token of the window in which it is least likely.
    """
    null = min(range(len(windows)), key=lambda number: _null(windows[number], logits[number]))
    null_score = _null(windows[null], logits[null])
    totals = [
        _log_sum(
            np.concatenate(
                [
                    both[side][w.first :][: len(w.best)][w.best]
                    for w, both in zip(windows, logits, strict=True)
                ]
                + [logits[null][side][[windows[null].cls]]]
            )
        )
        for side in (0, 1)
    ]
    found: list[tuple[float, int, int]] = []
    for window, (start, end) in zip(windows, logits, strict=True):
        found += _best_spans(window, start, end, top_k, longest)
    found.sort(key=lambda item: -item[0])
    answers = []
    if null_threshold is not None and (not found or null_score - found[0][0] > null_threshold):
        answers.append(Answer(float(np.exp(null_score - sum(totals))), "", 0, 0))
    for score, first, last in found:
        answers.append(Answer(float(np.exp(score - sum(totals))), context[first:last], first, last))
    return answers[:top_k]


def _null(window: Window, logits: tuple[np.ndarray, np.ndarray]) -> float:
    return float(logits[0][window.cls] + logits[1][window.cls])


def _log_sum(values: np.ndarray) -> float:
    highest = float(values.max())
    return highest + float(np.log(np.exp(values - highest).sum()))


def _best_spans(
    window: Window, start: np.ndarray, end: np.ndarray, top_k: int, longest: int
) -> list[tuple[float, int, int]]:
    """(start logit + end logit, start, end) of a window's best spans, in characters of the context.

    A span starts at a token of `window.best` and has at most `longest` tokens.
    """
    count = len(window.offsets)
    if not count:
        return []
    starts = np.where(window.best, start[window.first :][:count], -np.inf)
    longest = min(longest, count)
    ends = np.concatenate([end[window.first :][:count], np.full(longest - 1, -np.inf)])
    # Row i, column j: from token i to token i + j.
    scores = starts[:, None] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    flat = scores.ravel()
    order = [int(flat.argmax())] if top_k == 1 else np.argsort(-flat, kind="stable")[:top_k].tolist()
    return [
        (float(flat[index]), int(window.offsets[first, 0]), int(window.offsets[first + more, 1]))
        for index in order
        if flat[index] > -np.inf
        for first, more in [divmod(index, longest)]
    ]


HEAD = AnswerHead
