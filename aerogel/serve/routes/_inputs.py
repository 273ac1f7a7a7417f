"""Schemas and readers of inputs that several families of routes share."""

from __future__ import annotations

from typing import Any

from aerogel.serve.exchange import Exchange
from aerogel.serve.refusals import Empty, Invalid
from aerogel.serve.served import Served
from aerogel.system.json_fields import Either, Number, OneOf

__all__ = [
    "BOOL",
    "COUNT",
    "DIRECTION",
    "IDS",
    "TEXT",
    "TEXTS",
    "as_list",
    "characters",
    "embed_inputs",
    "optional",
]

_MAX = 2**31


def optional(schema: Any) -> Any:
    """A schema whose values may be null, as some clients send fields that are not set."""
    return Either(schema, None)


BOOL, TEXT, COUNT = optional(bool), optional(str), optional(Number(int, 1, _MAX))
TEXTS = Either(str, [str])
IDS = [Number(int, 0, _MAX)]
DIRECTION = optional(OneOf("left", "right", "Left", "Right"))


def as_list(inputs: Any) -> list[Any]:
    """One input or several as a list.

    Raises:
        Empty: the list is empty.
    """
    found = inputs if isinstance(inputs, list) else [inputs]
    if not found:
        raise Empty("the list of inputs is empty; send at least one text")
    return found


def characters(texts: list[Any]) -> int:
    """Number of characters of texts and pairs of texts."""
    return sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)


async def embed_inputs(
    exchange: Exchange,
    served: Served,
    method: str,
    inputs: list[Any],
    *,
    prompt: str | None = None,
    direction: str | None = None,
    truncate: bool | None = None,
    **options: Any,
) -> Any:
    """Run a method of a model on texts or lists of token ids.

    Raises:
        Invalid: texts and token ids are mixed, or a prompt is given for token ids.
    """
    model = served.model
    if all(isinstance(item, str) for item in inputs):
        count = characters(inputs)
        if direction is None or direction.lower() == "right":
            return await exchange.run(
                served, method, inputs, characters=count, truncate=truncate, prompt=prompt, **options
            )
        encoded = await served.prepare(count, lambda: model.tokenize(inputs, prompt=prompt, side="left"))
        return await exchange.run(served, method, encoded, characters=count, truncate=truncate, **options)
    if any(isinstance(item, str) for item in inputs):
        raise Invalid("texts and token ids are mixed; send one kind at once")
    if prompt:
        raise Invalid("a prompt cannot be put before token ids; send texts")
    ids = await served.prepare(sum(map(len, inputs)), lambda: model.encode_ids(inputs))
    return await exchange.run(served, method, ids, characters=0, truncate=truncate, **options)
