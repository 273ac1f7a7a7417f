"""Mask tokens for masked language modelling (Devlin et al. 2019, section 3.1).

15% of a row's ordinary tokens are chosen. Of these, 80% become the mask token, 10% a random token, 10% stay unchanged.
"""

from __future__ import annotations

import numpy as np

from aerogel.data.features import IGNORED

__all__ = ["mask_tokens"]

_CHOSEN, _MASKED, _REPLACED = 0.15, 0.8, 0.1


def mask_tokens(
    ids: np.ndarray, ordinary: np.ndarray, mask_id: int, vocabulary: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the tokens to predict and mask them.

    Args:
        ids: int64 ``[tokens]``.
        ordinary: boolean ``[tokens]``, False for special tokens.
        mask_id: id of the mask token.
        vocabulary: int64 ids to draw random tokens from.
        random: random generator.

    Returns:
        Inputs and labels, both int64 ``[tokens]``. The number of labels is exact: 15% of the ordinary tokens, rounded
        half up, and at least one if there is an ordinary token. The other labels are `IGNORED`.
    """
    positions = np.flatnonzero(ordinary)
    count = min(len(positions), max(1, int(_CHOSEN * len(positions) + 0.5)))
    chosen = random.permutation(positions)[:count]
    inputs, labels = ids.copy(), np.full_like(ids, IGNORED)
    labels[chosen] = ids[chosen]
    draws = random.random(count)
    inputs[chosen[draws < _MASKED]] = mask_id
    replaced = chosen[(draws >= _MASKED) & (draws < _MASKED + _REPLACED)]
    inputs[replaced] = random.choice(vocabulary, len(replaced))
    return inputs, labels
