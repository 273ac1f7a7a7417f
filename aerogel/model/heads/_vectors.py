"""What heads share that give one vector a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from aerogel.errors import UsageError
from aerogel.model.core import Batch, Core
from aerogel.model.head import Head
from aerogel.model.tokenizer import Encoded

__all__ = ["encode_prompted", "gather", "prompt_text", "shorten", "unit"]


def prompt_text(head: Head, prompt: str | None) -> str:
    """The text of a prompt.

    Args:
        head: whose prompts they are.
        prompt: its name; None for the default one, "" for none at all.

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
) -> list[Encoded]:
    """Tokenise texts with a prompt before each, as `Core.encode` does.

    Raises:
        UsageError: a text or the prompt cannot be meant, or the texts are tokenised already and a prompt is named.
    """
    given = texts if isinstance(texts, str | bytes) or not isinstance(texts, Iterable) else list(texts)
    if prompt and isinstance(given, list) and any(isinstance(text, Encoded) for text in given):
        raise UsageError(f"prompt={prompt!r}: these texts are tokenised already; give it to Model.tokenize")
    return core.encode(given, pairs=pairs, full=full, prompt=prompt_text(head, prompt))


def gather(
    batches: Iterable[Batch],
    count: int,
    vector: Callable[[np.ndarray], np.ndarray],
    *,
    per_token: bool,
    dimensions: int | None,
) -> np.ndarray:
    """One vector for each text, float32 ``[count, dimensions]``, in the order of the texts.

    Args:
        batches: outputs of the texts.
        count: number of texts.
        vector: makes a text's vector of its part of the output: ``[tokens, features]`` with `per_token`, else
            ``[features]``.
        per_token: whether the output has a row for each token.
        dimensions: features of an empty result.
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
    """The vector at length 1; zeros stay zeros."""
    length = np.sqrt(np.sum(vector * vector, dtype=np.float32))
    found: np.ndarray = vector / max(length, np.float32(1e-12))
    return found


def shorten(dimensions: int | None, width: int | None) -> int | None:
    """Check how many leading features are asked for.

    Raises:
        UsageError: it is not an integer from 1 to `width`.
    """
    if dimensions is None:
        return None
    if type(dimensions) is not int or dimensions < 1 or (width is not None and dimensions > width):
        raise UsageError(
            f"dimensions={dimensions!r} must be an integer from 1 to {width or 'the model width'}"
        )
    return dimensions
