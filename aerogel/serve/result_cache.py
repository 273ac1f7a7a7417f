"""Outputs of texts that were computed before, the least recently used ones dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from aerogel.serve.rows import Key

__all__ = ["ResultCache"]

# Memory of an entry besides its key and outputs, in bytes: objects of Python and NumPy.
_OVERHEAD = 400


class ResultCache:
    """Outputs by the key of a text.

    Args:
        max_bytes: largest memory of all entries; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, tuple[Sequence[np.ndarray], int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> Sequence[np.ndarray] | None:
        """The outputs of a text, or None."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: Key, arrays: Sequence[np.ndarray]) -> None:
        """Keep copies of the outputs of a text."""
        if not self._max_bytes or key in self._entries:
            return
        size = sum(array.nbytes for array in arrays) + sum(
            map(len, key if isinstance(key, tuple) else (key,))
        )
        size += _OVERHEAD
        if size > self._max_bytes:
            return
        # A view would keep the outputs of the whole batch.
        self._entries[key] = [array.copy() for array in arrays], size
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._bytes -= dropped
