"""Settings of a sentence-transformers folder: pooling, normalization, prompts and length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aerogel.errors import ArtifactError
from aerogel.model.document import Document, read_json
from aerogel.system.json_fields import Each, Number

__all__ = ["POOLINGS", "Sentence"]

# Switch in the configuration of sentence-transformers, by the name that `Model.embed` takes.
_SWITCHES = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
}

POOLINGS = tuple(_SWITCHES)
"""Ways to pool a text's token vectors into one vector."""


@dataclass(frozen=True)
class Sentence:
    """Modules and settings of a sentence-transformers folder.

    Attributes:
        pooling: one of `POOLINGS`, or None for a pooling that is not supported.
        normalized: whether vectors are scaled to length 1.
        sparse: whether the folder has a SPLADE encoder.
        unknown: first module that is not supported, e.g. "Dense"; "" if all are.
        prompts: texts to put before each input text, by name.
        default_prompt: name of the prompt to use when the caller names none.
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
        """The settings in a folder; None if it has no modules.json.

        Raises:
            ArtifactError: a file is malformed; names the file and field.
        """
        modules = folder / "modules.json"
        if not modules.is_file():
            return None
        pooling, normalized, sparse, unknown = None, False, False, ""
        for kind, path in _modules(modules):
            if kind == "Pooling":
                pooling = _pooling(Document.read(folder / path / "config.json"))
            elif kind == "SpladePooling":
                sparse = True
            elif kind == "Normalize":
                normalized = True
            elif kind not in ("Transformer", "MLMTransformer"):
                unknown = unknown or kind
        settings = Document.read_optional(folder / "config_sentence_transformers.json")
        prompts = settings.get("prompts", Each(str)) or {}
        default = settings.get("default_prompt_name", str)
        if default is not None and default not in prompts:
            raise ArtifactError(
                f"{settings.path}: default_prompt_name is {default!r}, which is not in prompts; correct the file"
            )
        return cls(
            pooling=pooling,
            normalized=normalized,
            sparse=sparse,
            unknown=unknown,
            prompts=prompts,
            default_prompt=default,
            max_length=Document.read_optional(folder / "sentence_bert_config.json").get(
                "max_seq_length", Number(int, 1, 2**31)
            ),
        )


def _modules(path: Path) -> list[tuple[str, str]]:
    """Class name and folder of each module, in order."""
    modules: list[dict[str, str]] = read_json(path, [{"type": str, "path": str}])
    for index, module in enumerate(modules):
        folder = PurePosixPath(module["path"])
        if folder.is_absolute() or ".." in folder.parts or "\0" in module["path"]:
            raise ArtifactError(
                f"{path}: [{index}].path is {module['path']!r}, not a folder inside the model's; restore the file"
            )
    return [(module["type"].rpartition(".")[2], module["path"]) for module in modules]


def _pooling(config: Document) -> str | None:
    """The one of `POOLINGS` that is switched on; None for any other."""
    mode: str | None = config.get("pooling_mode", str)
    if mode is not None:
        return mode if mode in POOLINGS else None
    on = [name for name in config.fields if name.startswith("pooling_mode_") and config.get(name, bool)]
    return next((pooling for pooling, switch in _SWITCHES.items() if on == [switch]), None)
