"""Questions and contexts as windows that a model can take.

A context that is too long for one window is cut into several, which begin `stride` tokens after one another. Question
and context are tokenised apart and put together here, each context once however many questions it has; which special
tokens stand around them is read off what the tokenizer makes of a pair.
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
        row: of the split.
        cls: position of the token that stands for "no answer".
        first: position of the first context token.
        offsets: per context token, the characters of the context it stands for.
        best: per context token, whether no other window shows it with more context around it.
    """

    row: int
    cls: int
    first: int
    offsets: list[tuple[int, int]]
    best: list[bool]


@dataclass(frozen=True)
class _Frame:
    """The special tokens before, between and after two texts, and the segments of all parts."""

    tokens: tuple[list[int], list[int], list[int]]
    segments: tuple[int, int, int, int, int]

    @property
    def size(self) -> int:
        return sum(map(len, self.tokens))

    @classmethod
    def of(cls, tokenizer: Any) -> _Frame:
        encoded = tokenizer("a", "a", return_token_type_ids=True)
        ids, parts, kinds = encoded["input_ids"], encoded.sequence_ids(0), encoded["token_type_ids"]
        one, two = parts.index(0), parts.index(1)
        one_end, two_end = len(parts) - parts[::-1].index(0), len(parts) - parts[::-1].index(1)
        segments = (kinds[0], kinds[one], kinds[two - 1], kinds[two], kinds[-1])
        return cls((ids[:one], ids[one_end:two], ids[two_end:]), segments)


def cut(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """(first, end) of each window over `tokens` context tokens, `room` of which fit; an empty one if there are none."""
    spans = [(0, min(room, tokens))]
    while spans[-1][1] < tokens:
        first = spans[-1][0] + min(room, stride)
        spans.append((first, min(first + room, tokens)))
    return spans


def most_context(spans: list[tuple[int, int]]) -> list[list[bool]]:
    """For each token of each window, whether the window is the first that shows most of its neighbours.

    That is the smaller number of tokens to its left and right, and a hundredth of the window's length to decide ties,
    as in BERT's own script.
    """
    result = [[True] * (end - first) for first, end in spans]
    if len(spans) == 1:
        return result
    held: dict[int, tuple[float, int]] = {}
    for number, (first, end) in enumerate(spans):
        for token in range(first, end):
            score = min(token - first, end - 1 - token) + 0.01 * (end - first)
            before = held.get(token)
            if before is not None and before[0] >= score:
                result[number][token - first] = False
                continue
            if before is not None:
                result[before[1]][token - spans[before[1]][0]] = False
            held[token] = (score, number)
    return result


def encode(split: Split, tokenizer: Any, max_length: int, stride: int, question_tokens: int) -> Features:
    """All windows of all questions, those of a question in order.

    Args:
        split: of questions.
        tokenizer: a fast one.
        max_length: tokens of a window.
        stride: context tokens between the beginnings of two windows.
        question_tokens: longer questions are cut.

    Raises:
        UsageError: a question and the special tokens leave no room for its context.
    """
    frame = _Frame.of(tokenizer)
    questions = [question for question, _ in split.texts]
    contexts = list(dict.fromkeys(context for _, context in split.texts))
    # Quiet, because a text longer than the model takes is cut here, not by the tokenizer.
    with quiet():
        asked = tokenizer(questions, add_special_tokens=False)["input_ids"]
        told = tokenizer(contexts, add_special_tokens=False, return_offsets_mapping=True)
    where = {context: number for number, context in enumerate(contexts)}
    inputs: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "token_type_ids": []}
    targets: dict[str, list[int]] = {"start_positions": [], "end_positions": []}
    windows = []
    for row, (label, (_, context)) in enumerate(zip(split.labels, split.texts, strict=True)):
        question = asked[row][:question_tokens]
        room = max_length - frame.size - len(question)
        if room < 1:
            raise UsageError(
                f"--max-length {max_length}: question {label.id!r} and the special tokens take "
                f"{frame.size + len(question)} and leave none for its context; raise it"
            )
        ids, offsets = told["input_ids"][where[context]], told["offset_mapping"][where[context]]
        answer = _tokens_of(label, offsets)
        spans = cut(len(ids), room, stride)
        for (first, end), best in zip(spans, most_context(spans), strict=True):
            parts = (frame.tokens[0], question, frame.tokens[1], ids[first:end], frame.tokens[2])
            whole = [token for part in parts for token in part]
            inputs["input_ids"].append(whole)
            inputs["attention_mask"].append([1] * len(whole))
            inputs["token_type_ids"].append(
                [kind for kind, part in zip(frame.segments, parts, strict=True) for _ in part]
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
    """First and last context token of the first answer; None if there is none or no token shows it."""
    if not question.answers:
        return None
    begin, end = question.start, question.start + len(question.answers[0])
    first = bisect_right(offsets, begin, key=lambda span: span[1])
    last = bisect_left(offsets, end, key=lambda span: span[0]) - 1
    return (first, last) if first <= last else None
