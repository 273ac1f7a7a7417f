from __future__ import annotations

import pytest

from aerogel.data.qa.metrics import normalise, score_v1, score_v2
from aerogel.data.qa.question import Question


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Denver\tBroncos!", "denver broncos"),
        ("an apple, a day", "apple day"),
        # Articles are removed after punctuation, so "a-" counts as one; only whole words are removed.
        ("a- theory of the U.S.A.", "theory of usa"),
        ("«Schrödinger\u2019s» cat…", "«schrödinger\u2019s» cat…"),  # only ASCII punctuation is removed
        ("24\u201310", "24\u201310"),
        ("The", ""),
        ("theatre", "theatre"),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


def question(*answers: str) -> Question:
    return Question("q", answers)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the Broncos", ("Broncos",), 1.0, 1.0),
        # Two of three predicted words are among the two true ones: precision 2/3, recall 1.
        ("Carolina Panthers team", ("Carolina Panthers", "x"), 0.0, 0.8),
        # Each metric takes its own best answer.
        ("a b c", ("b c", "b c d e"), 1.0, 1.0),
        # Words are multisets: "b" is common once, of 3 and 1.
        ("b b b", ("b",), 0.0, 0.5),
        ("", ("x",), 0.0, 0.0),
        # Both are empty after normalisation: an exact match, but version 1.1 finds no common word.
        ("the", ("a",), 1.0, 0.0),
    ],
)
def test_version_1_by_hand(prediction: str, answers: tuple[str, ...], exact: float, f1: float) -> None:
    assert score_v1([prediction], [question(*answers)]) == {
        "exact_match": exact,
        "f1": pytest.approx(f1),
    }


def test_version_1_is_the_mean_over_questions() -> None:
    found = score_v1(["x", "y z"], [question("x"), question("z")])
    assert found == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}


def test_version_2_by_hand() -> None:
    questions = [question("x y"), question("x"), question(), question()]
    assert score_v2(["x", "", "", "z"], questions) == {
        "exact_match": 0.25,
        "f1": pytest.approx((2 / 3 + 0 + 1 + 0) / 4),
        "has_answer_exact_match": 0.0,
        "has_answer_f1": pytest.approx(1 / 3),
        "no_answer_exact_match": 0.5,
        "no_answer_f1": 0.5,
    }


def test_version_2_with_answers_that_are_empty_after_normalisation() -> None:
    # "the" normalises to nothing, so the true answer is "", and so is the prediction.
    assert score_v2(["a"], [question("the")])["f1"] == 1.0
    assert score_v2(["x"], [question("the", "x")])["exact_match"] == 1.0
    assert score_v2(["the"], [question("the", "x")]) == {
        "exact_match": 0.0,
        "f1": 0.0,
        "has_answer_exact_match": 0.0,
        "has_answer_f1": 0.0,
    }
