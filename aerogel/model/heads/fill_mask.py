"""Prediction of a masked token."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.batch import Batch, Call
from aerogel.model.heads._labels import check_count
from aerogel.model.results import Filled
from aerogel.model.task import Task, activate
from aerogel.model.texts import check_text

__all__ = ["HEAD", "FillMask"]


class FillMask(Task):
    """Output float ``[batch, sequence, vocabulary]``."""

    RANKS = (3,)

    def fill_mask(self, text: str, *, top_k: int = 5) -> Call:
        """See `aerogel.Model.fill_mask`."""
        if top_k is None:
            raise UsageError("top_k=None must be an integer from 1")
        check_count("top_k", top_k)
        check_text(text, "text")
        tokenizer = self._core.tokenizer
        mask = tokenizer.special("mask")
        if mask is None:
            raise ArtifactError(
                f"{tokenizer.path}: the tokenizer has no mask token; add mask_token to tokenizer_config.json"
            )
        (encoded,) = tokenizer.encode([text])
        (positions,) = np.nonzero(encoded.ids == mask)
        if len(positions) != 1:
            truncated = f", truncated to {len(encoded)} tokens," if encoded.truncated else ""
            raise UsageError(
                f"text{truncated} has {len(positions)} mask tokens; "
                f"write {tokenizer.token(mask)} once, in place of the missing word"
            )
        position = int(positions[0])

        def finish(batches: Iterable[Batch]) -> list[Filled]:
            (batch,) = batches
            ((_, logits),) = batch.each_token()
            scores = activate(logits[position], "softmax")
            ids = encoded.ids.copy()
            found = []
            for number in np.argsort(-scores, kind="stable")[:top_k].tolist():
                ids[position] = number
                found.append(
                    Filled(
                        tokenizer.decode([number], skip_special=False),
                        number,
                        float(scores[number]),
                        tokenizer.decode(ids),
                    )
                )
            return found

        return self._call([encoded], finish)


HEAD = FillMask
