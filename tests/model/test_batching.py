from __future__ import annotations

import random
from typing import Any

import pytest

from aerogel.model.batching import make_batches


@pytest.mark.parametrize("options", [{}, {"free_padding": True}, {"may_pad": False}, {"max_rows": 3}])
def test_batches_cover_every_row_and_respect_the_budget(options: dict[str, Any]) -> None:
    draw = random.Random(0)
    lengths = [draw.randint(0, 40) for _ in range(200)]
    batches = make_batches(lengths, 64, **options)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    for batch in batches:
        sizes = [lengths[row] for row in batch]
        assert sizes == sorted(sizes, reverse=True)
        if options.get("free_padding"):
            assert sum(sizes) <= 64
            assert max(sizes) * len(sizes) <= 128
        else:
            assert max(sizes) * len(sizes) <= 64
        if options.get("may_pad") is False:
            assert len(set(sizes)) == 1
        assert len(batch) <= options.get("max_rows", 200)


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert make_batches([5, 100, 5], 10) == [[1], [0, 2]]
    assert make_batches([7], 1) == [[0]]
    assert make_batches([], 1) == []


def test_free_padding_allows_different_lengths_in_a_batch() -> None:
    lengths = [10, 9, 8, 2, 2]
    assert len(make_batches(lengths, 32)) == 2
    assert make_batches(lengths, 32, free_padding=True) == [[0, 1, 2, 3, 4]]
