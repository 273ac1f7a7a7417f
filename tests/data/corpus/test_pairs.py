from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from aerogel.data.corpus.pairs import Row, documents_to_rows


def corpus(documents: int, sentences: tuple[int, int], tokens: tuple[int, int]) -> list[list[list[int]]]:
    """Documents of distinct tokens, counted up within each document; token // 10,000 is the document."""
    draw = random.Random(7)
    made = []
    for number in range(documents):
        count = itertools.count(number * 10_000)
        made.append(
            [[next(count) for _ in range(draw.randint(*tokens))] for _ in range(draw.randint(*sentences))]
        )
    return made


def test_half_of_the_pairs_are_random() -> None:
    documents = corpus(200, (3, 40), (2, 20))
    ends = {sentence[-1] for document in documents for sentence in document}
    rows = documents_to_rows(documents, 60, random.Random(0), pairs=True)
    for row in rows:
        assert row.second
        assert 2 <= len(row.first) + len(row.second) <= 60
        for segment in (row.first, row.second):
            # A segment is a contiguous part of one document.
            assert segment == list(range(segment[0], segment[0] + len(segment)))
        same = row.first[0] // 10_000 == row.second[0] // 10_000
        assert same is not row.is_random
        if not row.is_random and len(row.first) + len(row.second) < 60:
            # Nothing was cut: B begins with the sentence after A.
            assert row.first[-1] in ends
            assert row.second[0] == row.first[-1] + 1
    # Half of the chunks with two or more sentences, and all chunks with one.
    share = sum(row.is_random for row in rows) / len(rows)
    assert 0.5 < share < 0.62


def test_every_sentence_is_used_once_if_nothing_is_cut() -> None:
    documents = corpus(50, (1, 9), (1, 4))
    rows = documents_to_rows(documents, 1000, random.Random(0), pairs=True)
    used = Counter(t for row in rows for t in row.first + ([] if row.is_random else row.second or []))
    whole = {token for document in documents for sentence in document for token in sentence}
    assert set(used) == whole
    assert set(used.values()) == {1}


def test_nine_tenths_of_the_rows_have_the_maximum_length() -> None:
    rows = documents_to_rows(corpus(40, (800, 800), (1, 1)), 100, random.Random(0), pairs=False)
    full = sum(len(row.first) == 100 for row in rows)
    assert 0.8 < full / len(rows) < 0.97
    assert all(row.second is None and not row.is_random for row in rows)
    tokens = sorted(token for row in rows for token in row.first)
    assert tokens == [number * 10_000 + at for number in range(40) for at in range(800)]


def test_single_document_has_only_true_continuations() -> None:
    rows = documents_to_rows(corpus(1, (200, 200), (5, 5)), 40, random.Random(0), pairs=True)
    assert rows
    assert not any(row.is_random for row in rows)
    assert documents_to_rows([[[1, 2, 3]]], 40, random.Random(0), pairs=True) == []
    assert documents_to_rows([[[1, 2, 3]]], 40, random.Random(0), pairs=False) == [Row([1, 2, 3])]


@pytest.mark.parametrize("pairs", [True, False])
def test_order_depends_on_the_seed_only(pairs: bool) -> None:
    documents = corpus(20, (3, 20), (2, 20))
    one, two, other = (
        documents_to_rows(documents, 50, random.Random(seed), pairs=pairs) for seed in ("a", "a", "b")
    )
    assert one == two != other


@pytest.mark.parametrize(
    ("lengths", "left"), [((300, 400), (32, 32)), ((10, 400), (10, 54)), ((400, 5), (59, 5))]
)
def test_cuts_the_longer_segment_first_at_a_random_token(
    lengths: tuple[int, int], left: tuple[int, int]
) -> None:
    documents = [[list(range(length))] for length in lengths]
    starts: set[int] = set()
    for seed in range(100):
        one, two = documents_to_rows(documents, 64, random.Random(seed), pairs=True)
        # Each document is segment A of one row and segment B of the other.
        for row in (one, two):
            sizes = (len(row.first), len(row.second or []))
            assert sizes in (left, left[::-1])
            starts |= {row.first[0] if len(row.first) >= max(left) else (row.second or [])[0]}
    assert len(starts) > 40
    assert max(starts) > 200
