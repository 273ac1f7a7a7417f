"""Masked language modelling (Devlin et al. 2019, section 3.1): which tokens are to be predicted, and what stands there.

Of a row's ordinary tokens 15% are chosen; of these 80% become the mask token, 10% a random token, 10% stay.
"""

from __future__ import annotations

import numpy as np

from aerogel.data.features import IGNORED

__all__ = ["mask_tokens"]

_CHOSEN, _MASKED, _REPLACED = 0.15, 0.8, 0.1


def mask_tokens(
    ids: np.ndarray, ordinary: np.ndarray, mask_id: int, vocabulary: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of a row.

    Args:
        ids: int64 ``[tokens]``.
        ordinary: boolean ``[tokens]``: not a special token.
        mask_id: of the mask token.
        vocabulary: int64, what a random token is drawn from.
        random: decides everything random.

    Returns:
        Both int64 ``[tokens]``. The number of labels is exact: 15% of the ordinary tokens, rounded half up and at least
        one if there is any; the other labels are `IGNORED`.
    """
    places = np.flatnonzero(ordinary)
    count = min(len(places), max(1, int(_CHOSEN * len(places) + 0.5)))
    chosen = random.permutation(places)[:count]
    inputs, labels = ids.copy(), np.full_like(ids, IGNORED)
    labels[chosen] = ids[chosen]
    fate = random.random(count)
    inputs[chosen[fate < _MASKED]] = mask_id
    replaced = chosen[(fate >= _MASKED) & (fate < _MASKED + _REPLACED)]
    inputs[replaced] = random.choice(vocabulary, len(replaced))
    return inputs, labels
