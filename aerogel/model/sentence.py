"""What a sentence-transformers folder says about pooling, normalisation, prompts and length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from aerogel.errors import ArtifactError
from aerogel.model.fields import Fields, read_json

__all__ = ["POOLINGS", "Sentence"]

# By the name of `Model.embed`: the switch that sentence-transformers has for it.
_SWITCHES = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
}

POOLINGS = tuple(_SWITCHES)
"""Ways to make one vector of a text's token vectors."""


@dataclass(frozen=True)
class Sentence:
    """Modules and settings of a sentence-transformers folder.

    Attributes:
        pooling: how token vectors become one, one of `POOLINGS`; None where it is none of them.
        normalized: whether vectors are scaled to length 1.
        sparse: whether the folder is of a SPLADE encoder.
        unknown: module that is not known here, e.g. "Dense"; "" where there is none.
        prompts: texts that can go before each text, by name.
        default_prompt: name of the prompt that is used where none is asked for.
        max_length: longest sequence in tokens, or None.
    """

    pooling: str | None = None
    normalized: bool = False
    sparse: bool = False
    unknown: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    max_length: int | None = None

    @classmethod
    def read(cls, folder: Path) -> Sentence | None:
        """The settings in a folder; None where it has no modules.json.

        Raises:
            ArtifactError: a file is malformed; the message names the file and the field.
        """
        listed = folder / "modules.json"
        if not listed.is_file():
            return None
        pooling, normalized, sparse, unknown = None, False, False, ""
        for kind, path in _modules(listed):
            if kind == "Pooling":
                pooling = _pooling(Fields.read(folder / path / "config.json"))
            elif kind == "SpladePooling":
                sparse = True
            elif kind == "Normalize":
                normalized = True
            elif kind not in ("Transformer", "MLMTransformer"):
                unknown = unknown or kind
        settings = Fields.read_optional(folder / "config_sentence_transformers.json")
        prompts = settings.text_map("prompts") or {}
        default = settings.text("default_prompt_name")
        if default is not None and default not in prompts:
            raise ArtifactError(
                f"{settings.where}: default_prompt_name is {default!r}, which prompts does not have"
            )
        return cls(
            pooling=pooling,
            normalized=normalized,
            sparse=sparse,
            unknown=unknown,
            prompts=prompts,
            default_prompt=default,
            max_length=Fields.read_optional(folder / "sentence_bert_config.json").integer(
                "max_seq_length", 1
            ),
        )


def _modules(path: Path) -> list[tuple[str, str]]:
    """Class name and folder of each module, in order."""
    listed = read_json(path)
    if not isinstance(listed, list):
        raise ArtifactError(f"{path} must be a list of modules")
    return [_module(Fields(f"{path}: [{number}]", item)) for number, item in enumerate(listed)]


def _module(item: Fields) -> tuple[str, str]:
    kind, path = item.text("type"), item.text("path")
    if not kind:
        raise item.refuse("type", "the name of a class")
    if path is None:
        raise item.refuse("path", "the name of a folder")
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\0" in path:
        raise item.refuse("path", "a folder inside the model's")
    return kind.rpartition(".")[2], path


def _pooling(config: Fields) -> str | None:
    """The one way of `POOLINGS` that is switched on."""
    given: Any = config.text("pooling_mode")
    if given is not None:
        return given if given in POOLINGS else None
    on = [name for name in config.values if name.startswith("pooling_mode_") and config.flag(name)]
    return next((way for way, switch in _SWITCHES.items() if on == [switch]), None)
