"""The head of an artifact: what it computes and how to read its output."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aerogel.errors import ArtifactError
from aerogel.model.document import check_value
from aerogel.registry import Registry
from aerogel.system.json_fields import Each, Either, Number, OneOf, Only

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aerogel.model.task import Task

__all__ = ["ACTIVATIONS", "HEADS", "Head"]

ACTIVATIONS = ("softmax", "sigmoid", "identity")
"""Functions that turn logits into scores."""

_MAX = 2**31
_FIELDS = {
    "output": str,
    "dimensions?": Either(Number(int, 1, _MAX), None),
    "normalized?": Either(bool, None),
    "labels?": Either([str], None),
    "activation?": Either(OneOf(*ACTIVATIONS), None),
    "prompts?": Either(Each(str), None),
    "default_prompt?": Either(str, None),
    "pad_id?": Either(Number(int, 0, _MAX), None),
}

HEADS: Registry[type[Task]] = Registry("head", "aerogel.model.heads", "HEAD")


@dataclass(frozen=True)
class Head:
    """The head of an artifact.

    Attributes:
        kind: name of a module of `aerogel.model.heads`, with underscores; decides the model's methods.
        output: name of the session's output that the methods read; the first one if they read several.
        dimensions: features of an embedding, or None if unknown.
        normalized: whether the output's vectors have length 1.
        labels: names of the classes, in the order of the logits.
        activation: one of `ACTIVATIONS`; None for the default of the kind.
        prompts: texts to put before each input text, by name.
        default_prompt: name of the prompt to use when the caller names none.
        pad_id: token id that pads a batch; None for the tokenizer's.
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
    def from_json(cls, value: Any, path: Path, field: str = "head") -> Head:
        """Read the ``head`` of a manifest.

        Args:
            value: the parsed JSON.
            path: the manifest, for messages.
            field: name of the field that has `value`, for messages.

        Raises:
            ArtifactError: a field is missing, unknown or malformed; names the file and field.
        """
        kinds = (name.replace("-", "_") for name in HEADS.names())
        check_value(value, Only({"kind": OneOf(*kinds), **_FIELDS}), path, field)
        given: dict[str, Any] = {name: item for name, item in value.items() if item is not None}
        for name in ("output", "labels"):
            if name in given and not given[name]:
                raise ArtifactError(f"{path}: {field}.{name} is empty; export the model again")
        prompts, default = given.pop("prompts", {}), given.get("default_prompt")
        if default is not None and default not in prompts:
            raise ArtifactError(
                f"{path}: {field}.default_prompt is {default!r}, which is not in prompts; export the model again"
            )
        if "labels" in given:
            given["labels"] = tuple(given["labels"])
        return cls(**given, prompts=MappingProxyType(prompts))
