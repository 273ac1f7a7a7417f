from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aerogel.data.features import Features
from aerogel.data.qa.question import Question
from aerogel.data.qa.spans import best_spans
from aerogel.data.qa.windows import Window
from aerogel.data.split import Split
from aerogel.data.tasks import TASKS

CONTEXT = "aa bb cc dd ee"
OFFSETS = [(0, 2), (3, 5), (6, 8), (9, 11), (12, 14)]


def features(
    *windows: tuple[int, int] | tuple[int, int, list[bool]], rows: list[int] | None = None
) -> Features:
    """Windows over context tokens [first, end): [CLS] q [SEP] context [SEP]."""
    made = []
    for number, (first, end, *best) in enumerate(windows):
        row = rows[number] if rows else 0
        made.append(Window(row, 0, 3, OFFSETS[first:end], best[0] if best else [True] * (end - first)))
    count = max(window.row for window in made) + 1
    split = Split([("q", CONTEXT)] * count, [Question(str(n), ("bb",), 3) for n in range(count)], "")
    lengths = [[0] * (4 + len(window.offsets)) for window in made]
    return Features(split, {"input_ids": lengths}, {}, {}, made)


def logits(*windows: list[float]) -> list[np.ndarray]:
    return [np.array(window, np.float32) for window in windows]


def find(
    given: Features, start: Any, end: Any, max_tokens: int = 30, n_best: int = 20
) -> list[tuple[str, float]]:
    found = best_spans({"start_logits": start, "end_logits": end}, given, max_tokens, n_best)
    return [(one.text, one.null) for one in found]


#                CLS  q  SEP  aa   bb   cc   dd   ee  SEP
START = logits([1.0, 9, 9, 0.0, 5.0, 1.0, 4.0, 0.0, 9])
END = logits([0.5, 9, 9, 6.0, 1.0, 3.0, 2.0, 0.0, 9])


def test_best_span_is_ordered_and_inside_the_context() -> None:
    # bb..cc has 5 + 3; aa..aa 0 + 6; bb..aa with 11 runs backwards, and question and [SEP] are outside the context.
    assert find(features((0, 5)), START, END) == [("bb cc", pytest.approx(1.5 - 8.0))]


def test_spans_have_at_most_max_tokens() -> None:
    # One token: bb..bb 6, aa..aa 6, dd..dd 6: the first candidate by start rank is bb.
    assert find(features((0, 5)), START, END, max_tokens=1)[0][0] == "bb"
    long = logits([0.0, 0, 0, 8, 0, 0, 0, 0, 0]), logits([0.0, 0, 0, 0, 0, 0, 0, 8, 0])
    assert find(features((0, 5)), *long, max_tokens=5)[0] == ("aa bb cc dd ee", -16.0)
    assert find(features((0, 5)), *long, max_tokens=4)[0][1] == -8.0


def test_only_the_highest_starts_and_ends_are_combined() -> None:
    # The four highest starts and ends include three outside the context; bb to aa is not a span.
    assert find(features((0, 5)), START, END, n_best=4) == [("", np.inf)]
    # One more: dd as a start, cc as an end.
    assert find(features((0, 5)), START, END, n_best=5)[0][0] == "bb cc"


def test_takes_the_best_span_and_the_lowest_null_of_all_windows() -> None:
    given = features((0, 3), (2, 5))
    start = logits([3.0, 0, 0, 1, 0, 0, 0], [1.0, 0, 0, 0, 2, 0, 0])
    end = logits([3.0, 0, 0, 1, 0, 0, 0], [2.5, 0, 0, 0, 2, 1, 0])
    # aa with 2 in the first window, dd with 4 in the second; the nulls are 6 and 3.5.
    assert find(given, start, end) == [("dd", pytest.approx(3.5 - 4.0))]


def test_span_begins_where_its_token_has_most_context() -> None:
    given = features((0, 3, [True, False, False]), (1, 5, [True, True, True, True]))
    start = logits([0.0, 0, 0, 1, 9, 0, 0], [0.0, 0, 0, 0, 0, 0, 2, 0])
    end = logits([0.0, 0, 0, 0, 0, 5, 0], [0.0, 0, 0, 0, 0, 0, 2, 0])
    # bb has the highest start in the first window but belongs to the second; aa..cc with 1 + 5 remains.
    assert find(given, start, end)[0][0] == "aa bb cc"


def test_rows_keep_their_order_and_empty_context_has_no_answer() -> None:
    given = features((0, 2), (0, 0), (3, 5), rows=[0, 1, 2])
    start = logits([0.0, 0, 0, 0, 1, 0], [0.0, 0, 0, 7], [0.0, 0, 0, 1, 0, 0])
    end = logits([0.0, 0, 0, 0, 1, 0], [0.0, 0, 0, 7], [0.0, 0, 0, 1, 0, 0])
    assert [text for text, _ in find(given, start, end)] == ["bb", "", "dd"]


def test_equals_a_brute_force_search() -> None:
    rng = np.random.default_rng(0)
    given = features((0, 4, [True, True, True, False]), (2, 5, [False, True, True]))
    for _ in range(50):
        start = logits(*(rng.normal(size=n + 4).tolist() for n in (4, 3)))
        end = logits(*(rng.normal(size=n + 4).tolist() for n in (4, 3)))
        candidates = [
            (float(s[3 + i]) + float(e[3 + j]), CONTEXT[window.offsets[i][0] : window.offsets[j][1]])
            for window, s, e in zip(given.origin, start, end, strict=True)
            for i in range(len(window.offsets))
            for j in range(i, min(len(window.offsets), i + 2))
            if window.best[i]
        ]
        null = min(float(s[0]) + float(e[0]) for s, e in zip(start, end, strict=True))
        score, text = max(candidates)
        assert find(given, start, end, max_tokens=2) == [(text, pytest.approx(null - score))]


@pytest.mark.parametrize(("threshold", "answer"), [("0", "bb cc"), ("-7", ""), ("-6.4", "bb cc")])
def test_only_version_2_predicts_no_answer_above_the_threshold(threshold: str, answer: str) -> None:
    given = features((0, 5))
    outputs = {"start_logits": START, "end_logits": END}
    task = TASKS.get("squad-v2").configured({"null_threshold": threshold}, "squad-v2")
    assert task.answers(task.predict(outputs, given)) == [answer]
    assert task.score({"": outputs}, {"": given})["has_answer_f1"] == pytest.approx(2 / 3 if answer else 0)
    first = TASKS.get("squad").configured({"null_threshold": threshold}, "squad")
    assert first.answers(first.predict(outputs, given)) == ["bb cc"]
