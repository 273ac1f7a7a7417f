"""Turn questions and contexts into windows of the model's length.

A context that is too long for one window is split into several, which begin `stride` tokens apart. Questions and
contexts are tokenised separately, each context only once, and joined here. The special tokens around them are taken
from the tokenizer's encoding of a short pair.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from aerogel.data.features import Features, padding
from aerogel.data.qa.question import Question
from aerogel.data.split import Split
from aerogel.errors import UsageError
from aerogel.hf.quiet import quiet

__all__ = ["Window", "cut", "encode", "most_context"]


@dataclass(frozen=True)
class Window:
    """One feature.

    Attributes:
        row: row of the split.
        cls: position of the [CLS] token, which means "no answer".
        first: position of the first context token.
        offsets: (begin, end) characters in the context of each context token.
        best: for each context token, whether this window shows it with the most context, see `most_context`.
    """

    row: int
    cls: int
    first: int
    offsets: list[tuple[int, int]]
    best: list[bool]


@dataclass(frozen=True)
class _Frame:
    """Special tokens before, between and after two texts, and the token type of each of the five parts."""

    tokens: tuple[list[int], list[int], list[int]]
    segments: tuple[int, int, int, int, int]

    @property
    def size(self) -> int:
        return sum(map(len, self.tokens))

    @classmethod
    def of(cls, tokenizer: Any) -> _Frame:
        encoded = tokenizer("a", "a", return_token_type_ids=True)
        ids, parts, types = encoded["input_ids"], encoded.sequence_ids(0), encoded["token_type_ids"]
        one, two = parts.index(0), parts.index(1)
        one_end, two_end = len(parts) - parts[::-1].index(0), len(parts) - parts[::-1].index(1)
        segments = (types[0], types[one], types[two - 1], types[two], types[-1])
        return cls((ids[:one], ids[one_end:two], ids[two_end:]), segments)


def cut(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Split `tokens` context tokens into windows of at most `room` tokens that begin `stride` tokens apart.

    Returns:
        (first, end) of each window. Without tokens, one empty window.
    """
    spans = [(0, min(room, tokens))]
    while spans[-1][1] < tokens:
        first = spans[-1][0] + min(room, stride)
        spans.append((first, min(first + room, tokens)))
    return spans


def most_context(spans: list[tuple[int, int]]) -> list[list[bool]]:
    """Mark for each token of each window whether this is the window with the most context around the token.

    The context is the smaller of the token counts to the left and right, plus a hundredth of the window's length to
    break ties, as in BERT's script. If several windows are equal, the first is marked.
    """
    result = [[True] * (end - first) for first, end in spans]
    if len(spans) == 1:
        return result
    best: dict[int, tuple[float, int]] = {}
    for number, (first, end) in enumerate(spans):
        for token in range(first, end):
            score = min(token - first, end - 1 - token) + 0.01 * (end - first)
            before = best.get(token)
            if before is not None and before[0] >= score:
                result[number][token - first] = False
                continue
            if before is not None:
                result[before[1]][token - spans[before[1]][0]] = False
            best[token] = (score, number)
    return result


def encode(split: Split, tokenizer: Any, max_length: int, stride: int, question_tokens: int) -> Features:
    """Make the windows of all questions, those of one question in order.

    Args:
        split: split of questions.
        tokenizer: fast tokenizer.
        max_length: maximum tokens of a window.
        stride: context tokens from the start of one window to the start of the next.
        question_tokens: maximum tokens of a question; longer ones are truncated.

    Raises:
        UsageError: a question and the special tokens leave no room for its context.
    """
    frame = _Frame.of(tokenizer)
    questions = [question for question, _ in split.texts]
    contexts = list(dict.fromkeys(context for _, context in split.texts))
    # Silence the warning about texts that exceed the model's length: they are split into windows below.
    with quiet():
        question_ids = tokenizer(questions, add_special_tokens=False)["input_ids"]
        context_ids = tokenizer(contexts, add_special_tokens=False, return_offsets_mapping=True)
    index = {context: number for number, context in enumerate(contexts)}
    inputs: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "token_type_ids": []}
    targets: dict[str, list[int]] = {"start_positions": [], "end_positions": []}
    windows = []
    for row, (label, (_, context)) in enumerate(zip(split.labels, split.texts, strict=True)):
        question = question_ids[row][:question_tokens]
        room = max_length - frame.size - len(question)
        if room < 1:
            raise UsageError(
                f"--max-length {max_length}: question {label.id!r} and the special tokens take "
                f"{frame.size + len(question)} tokens and leave no room for the context; raise --max-length"
            )
        ids, offsets = (context_ids[name][index[context]] for name in ("input_ids", "offset_mapping"))
        answer = _tokens_of(label, offsets)
        spans = cut(len(ids), room, stride)
        for (first, end), best in zip(spans, most_context(spans), strict=True):
            parts = (frame.tokens[0], question, frame.tokens[1], ids[first:end], frame.tokens[2])
            whole = [token for part in parts for token in part]
            inputs["input_ids"].append(whole)
            inputs["attention_mask"].append([1] * len(whole))
            inputs["token_type_ids"].append(
                [segment for segment, part in zip(frame.segments, parts, strict=True) for _ in part]
            )
            cls = whole.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in whole else 0
            begin = len(parts[0]) + len(question) + len(parts[2])
            inside = answer is not None and first <= answer[0] and answer[1] < end
            for name, token in zip(targets, answer or (0, 0), strict=True):
                targets[name].append(begin + token - first if inside else cls)
            windows.append(Window(row, cls, begin, offsets[first:end], best))
    known = {name: rows for name, rows in inputs.items() if name in tokenizer.model_input_names}
    return Features(split, known, targets, padding(tokenizer), windows)


def _tokens_of(question: Question, offsets: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the first and last context token of the first answer; None without an answer or matching tokens."""
    if not question.answers:
        return None
    begin, end = question.start, question.start + len(question.answers[0])
    first = bisect_right(offsets, begin, key=lambda span: span[1])
    last = bisect_left(offsets, end, key=lambda span: span[0]) - 1
    return (first, last) if first <= last else None
