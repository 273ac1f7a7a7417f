"""What an artifact computes: the kind of its head, and how to read its output."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aerogel.errors import ArtifactError
from aerogel.model.fields import Fields
from aerogel.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aerogel.model.task import Task

__all__ = ["ACTIVATIONS", "HEADS", "Head"]

ACTIVATIONS = ("softmax", "sigmoid", "identity")
"""What may turn logits into scores."""

HEADS: Registry[type[Task]] = Registry("head", "aerogel.model.heads", "HEAD")


@dataclass(frozen=True)
class Head:
    """The head of an artifact.

    Attributes:
        kind: which methods the model has: a module of `aerogel.model.heads`, with underscores.
        output: name of the output that they read; the first one where they read several.
        dimensions: features of an embedding; None where it is not known.
        normalized: whether the output's vectors have length 1.
        labels: names of the classes, in the order of the logits.
        activation: what turns logits into scores; None for the kind's own.
        prompts: texts that can go before each text, by name.
        default_prompt: name of the prompt that is used where none is asked for.
        pad_id: token that pads a batch; None for the tokenizer's.
    """

    kind: str
    output: str
    dimensions: int | None = None
    normalized: bool = False
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    prompts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    default_prompt: str | None = None
    pad_id: int | None = None

    @classmethod
    def from_json(cls, value: Any, where: str) -> Head:
        """Read the ``head`` of a manifest.

        Args:
            value: the parsed JSON.
            where: file and field that it comes from, for messages.

        Raises:
            ArtifactError: a field is missing, unknown or malformed; the message names it.
        """
        given = Fields(where, value)
        given.only([item.name for item in fields(cls)])
        kind = given.text("kind", [name.replace("-", "_") for name in HEADS.names()])
        output = given.text("output")
        if kind is None:
            raise given.refuse("kind", "a string")
        if not output:
            raise given.refuse("output", "the name of an output")
        labels = given.texts("labels")
        if labels == ():
            raise given.refuse("labels", "a list of one label or more")
        prompts = given.text_map("prompts") or {}
        default_prompt = given.text("default_prompt")
        if default_prompt is not None and default_prompt not in prompts:
            raise ArtifactError(f"{where}.default_prompt is {default_prompt!r}, which prompts does not have")
        return cls(
            kind=kind,
            output=output,
            dimensions=given.integer("dimensions", 1),
            normalized=given.flag("normalized") or False,
            labels=labels,
            activation=given.text("activation", ACTIVATIONS),
            prompts=MappingProxyType(prompts),
            default_prompt=default_prompt,
            pad_id=given.integer("pad_id", 0),
        )
