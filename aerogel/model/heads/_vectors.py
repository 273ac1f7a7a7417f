"""Helpers of heads that compute vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from aerogel.errors import UsageError
from aerogel.model.batch import Batch
from aerogel.model.core import Core
from aerogel.model.head import Head
from aerogel.model.tokenizer import Encoded

__all__ = ["encode_prompted", "gather", "prompt_text", "shorten", "unit"]


def prompt_text(head: Head, prompt: str | None) -> str:
    """The text of a prompt.

    Args:
        head: the head with the prompts.
        prompt: name of the prompt; None for the default, "" for no prompt.

    Raises:
        UsageError: the head has no prompt of that name.
    """
    name = head.default_prompt if prompt is None else prompt
    if not name:
        return ""
    if name not in head.prompts:
        known = f"it has {', '.join(head.prompts)}" if head.prompts else "it has none"
        raise UsageError(f"prompt={name!r} is not a prompt of the model; {known}")
    return head.prompts[name]


def encode_prompted(
    core: Core,
    head: Head,
    texts: Iterable[Any],
    prompt: str | None,
    *,
    pairs: bool = False,
    full: bool = False,
    side: str | None = None,
) -> list[Encoded]:
    """Tokenize texts with a prompt before each; see `Core.encode`.

    Raises:
        UsageError: a text is invalid, the prompt is unknown, or a prompt is given for tokenized texts.
    """
    given = texts if isinstance(texts, str | bytes) or not isinstance(texts, Iterable) else list(texts)
    if prompt and isinstance(given, list) and any(isinstance(text, Encoded) for text in given):
        raise UsageError(
            f"prompt={prompt!r}: these texts are tokenized already; pass the prompt to Model.tokenize"
        )
    return core.encode(given, pairs=pairs, full=full, prompt=prompt_text(head, prompt), side=side)


def gather(
    batches: Iterable[Batch],
    count: int,
    vector: Callable[[np.ndarray], np.ndarray],
    *,
    per_token: bool,
    dimensions: int | None,
) -> np.ndarray:
    """Collect one vector per text, float32 ``[count, dimensions]``, in the order of the texts.

    Args:
        batches: outputs of the texts.
        count: number of texts.
        vector: function from a text's output, ``[tokens, features]`` with `per_token`, else ``[features]``, to its
            vector.
        per_token: whether the output has a row per token.
        dimensions: number of features of an empty result.
    """
    result: np.ndarray | None = None
    for batch in batches:
        for row, array in batch.each_token() if per_token else batch.each():
            found = vector(array)
            if result is None:
                result = np.empty((count, len(found)), np.float32)
            result[row] = found
    return np.empty((0, dimensions or 0), np.float32) if result is None else result


def unit(vector: np.ndarray) -> np.ndarray:
    """Scale a vector to length 1; zeros stay zeros."""
    length = np.sqrt(np.sum(vector * vector, dtype=np.float32))
    scaled: np.ndarray = vector / max(length, np.float32(1e-12))
    return scaled


def shorten(dimensions: int | None, width: int | None) -> int | None:
    """Check a number of leading features.

    Raises:
        UsageError: `dimensions` is neither None nor an integer from 1 to `width`.
    """
    if dimensions is None:
        return None
    if type(dimensions) is not int or dimensions < 1 or (width is not None and dimensions > width):
        raise UsageError(
            f"dimensions={dimensions!r} must be an integer from 1 to {width or 'the model width'}"
        )
    return dimensions
