from __future__ import annotations

import numpy as np

from aerogel.serve.result_cache import ResultCache


def test_the_least_recently_used_entry_is_dropped() -> None:
    cache = ResultCache(1000)
    for key in (b"a", b"b"):
        cache.put(key, [np.zeros(4, np.float32)])
    assert cache.get(b"a") is not None
    cache.put(b"c", [np.zeros(4, np.float32)])
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_entries_are_copies_and_large_ones_are_not_kept() -> None:
    cache = ResultCache(1000)
    whole = np.zeros((2, 4), np.float32)
    cache.put(b"a", [whole[0]])
    whole[:] = 1
    found = cache.get(b"a")
    assert found is not None
    np.testing.assert_array_equal(found[0], np.zeros(4))
    cache.put(b"b", [np.zeros(1000, np.float32)])
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
