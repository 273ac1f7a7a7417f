from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from aerogel.data.qa.question import Question
from aerogel.data.qa.windows import Window, cut, encode, most_context
from aerogel.data.split import Split
from aerogel.data.tasks import TASKS
from aerogel.errors import UsageError

CONTEXT = "the film was good and the film was bad"


@pytest.fixture
def tokenizer(tiny_checkpoint: Callable[..., Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_checkpoint())


def split(question: str, context: str, *answers: str) -> Split:
    start = context.index(answers[0]) if answers else 0
    return Split([(question, context)], [Question("q", answers, start)], "")


def test_windows_begin_stride_tokens_apart() -> None:
    assert cut(10, room=10, stride=3) == [(0, 10)]
    assert cut(10, room=6, stride=3) == [(0, 6), (3, 9), (6, 10)]
    # A stride above the room is reduced, or tokens would be skipped.
    assert cut(10, room=4, stride=99) == [(0, 4), (4, 8), (8, 10)]
    assert cut(0, room=4, stride=2) == [(0, 0)]
    assert cut(3, room=1, stride=1) == [(0, 1), (1, 2), (2, 3)]


def test_each_token_belongs_to_the_window_with_most_context() -> None:
    # Token 3 has min(3, 2) + 0.06 in the first window and min(0, 5) + 0.06 in the second, token 4 has 1 and 1: the
    # first window keeps the tie.
    assert most_context([(0, 6), (3, 9)]) == [
        [True, True, True, True, True, False],
        [False, False, True, True, True, True],
    ]
    # Of two windows with the same context on the shorter side, the longer window wins.
    assert most_context([(0, 3), (2, 7)]) == [[True, True, False], [True] * 5]
    assert most_context([(0, 2)]) == [[True, True]]


def test_every_token_belongs_to_exactly_one_window() -> None:
    spans = cut(100, room=30, stride=7)
    held = np.zeros(100, int)
    for (first, end), best in zip(spans, most_context(spans), strict=True):
        held[first:end] += best
    assert held.tolist() == [1] * 100


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_short_row_equals_the_tokenizers_encoding_of_the_pair(
    tiny_checkpoint: Callable[..., Path], family: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint(family))
    features = encode(split("is it good", CONTEXT, "good"), tokenizer, 64, 16, 64)
    expected = tokenizer("is it good", CONTEXT)
    assert len(features) == 1
    assert set(features.inputs) == set(tokenizer.model_input_names)
    assert {name: rows[0] for name, rows in features.inputs.items()} == {
        name: expected[name] for name in tokenizer.model_input_names
    }
    # [CLS] is it good [SEP] the film was good ...
    assert (features.targets["start_positions"], features.targets["end_positions"]) == ([8], [8])


def test_answer_is_a_target_in_every_window_that_contains_all_of_it(tokenizer: Any) -> None:
    # Room for 14 - 3 - 3 = 5 context tokens of 9; windows begin 2 apart: 0-4, 2-6, 4-8. The answer is tokens 3 to 4.
    features = encode(split("is it good", CONTEXT, "good and"), tokenizer, 11, 2, 64)
    assert [len(ids) for ids in features.inputs["input_ids"]] == [11, 11, 11]
    assert [window.offsets[0][0] for window in features.origin] == [0, 9, 18]
    # The last two context tokens of window 1, the second and third of window 2; window 3 has only half: [CLS].
    assert features.targets == {"start_positions": [8, 6, 0], "end_positions": [9, 7, 0]}
    assert [window.first for window in features.origin] == [5, 5, 5]


@pytest.mark.parametrize(
    ("context", "answer", "expected"),
    [
        ("Zoë\u2019s café is good", "café", "café"),
        ("naïve 映画 good film", "映画", "映画"),
        ("a 🎬 is a film", "🎬", "🎬"),
        ("good", "good", "good"),
        # Part of a word: all tokens that overlap it.
        ("the film's end", "film", "film"),
        ("   good   film   ", "good   film", "good   film"),
    ],
)
def test_target_tokens_cover_the_characters_of_the_answer(
    tokenizer: Any, context: str, answer: str, expected: str
) -> None:
    features = encode(split("what", context, answer), tokenizer, 64, 16, 64)
    window: Window = features.origin[0]
    start, end = (features.targets[name][0] - window.first for name in ("start_positions", "end_positions"))
    assert context[window.offsets[start][0] : window.offsets[end][1]] == expected


@pytest.mark.parametrize("context", ["", "   \n"])
def test_empty_context_is_one_window_without_tokens(tokenizer: Any, context: str) -> None:
    features = encode(split("what is it", context), tokenizer, 16, 4, 64)
    assert len(features) == 1
    assert features.origin[0].offsets == []
    assert features.targets == {"start_positions": [0], "end_positions": [0]}


def test_truncates_long_questions_and_rejects_those_without_room_for_context(tokenizer: Any) -> None:
    row = split("good " * 40, CONTEXT, "bad")
    features = encode(row, tokenizer, 20, 5, question_tokens=6)
    assert all(len(ids) <= 20 for ids in features.inputs["input_ids"])
    assert features.origin[0].first == 8
    message = "--max-length 20: question 'q' and the special tokens take 43 tokens and leave no room"
    with pytest.raises(UsageError, match=message):
        encode(row, tokenizer, 20, 5, question_tokens=64)
    assert len(encode(row, tokenizer, 44, 1, 64)) == 9


def test_keeps_the_order_of_questions_that_share_a_context(tokenizer: Any) -> None:
    rows = Split(
        [("good", CONTEXT), ("is it bad", CONTEXT), ("what", "film")],
        [Question("a", ("film",), 4), Question("b", ()), Question("c", ("film",), 0)],
        "",
    )
    features = encode(rows, tokenizer, 9, 3, 64)
    assert [window.row for window in features.origin] == sorted(window.row for window in features.origin)
    assert {window.row for window in features.origin} == {0, 1, 2}
    assert all(
        position == 0
        for window, position in zip(features.origin, features.targets["start_positions"], strict=True)
        if window.row == 1
    )


def test_rejects_slow_tokenizer() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(
        UsageError, match=r"question answering needs a fast tokenizer, and Slow is a slow one"
    ):
        TASKS.get("squad").encode(split("q", "c", "c"), Slow(), 16)
