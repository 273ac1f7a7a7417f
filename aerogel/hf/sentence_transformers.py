"""Reading a sentence-transformers directory: which modules follow the transformer, and their settings.

``modules.json`` lists the modules in order. The first is the transformer; the others pool its token states, project,
or normalise. Nothing of the sentence-transformers package is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel.errors import CheckpointError, ExportError
from aerogel.system import json_fields

__all__ = [
    "MODULES_FILE",
    "POOLINGS",
    "Dense",
    "Modules",
    "Pooling",
    "is_sentence_transformers",
    "module_files",
    "read_modules",
]

MODULES_FILE = "modules.json"

POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weighted_mean": "pooling_mode_weightedmean_tokens",
    "last_token": "pooling_mode_lasttoken",
}
"""Pooling modes, and the field of ``1_Pooling/config.json`` that turns each on. Several are concatenated."""

_SPELLINGS = {
    "weightedmean": "weighted_mean",
    "lasttoken": "last_token",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
}
_ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Sigmoid": "sigmoid"}
_LARGEST_FILE = 1 << 20  # bytes; the real ones have a few hundred


@dataclass(frozen=True)
class Pooling:
    """How token states ``[batch, tokens, d]`` become one vector: `modes`, concatenated in the order of `POOLINGS`."""

    modes: tuple[str, ...]
    include_prompt: bool = True


@dataclass(frozen=True)
class Dense:
    """A linear layer behind the pooling.

    Attributes:
        folder: where its weights are.
        in_features: size of its input.
        out_features: size of its output.
        bias: whether it has one.
        activation: "identity", "tanh", "relu", "gelu" or "sigmoid".
    """

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class Modules:
    """A sentence-transformers model.

    Attributes:
        transformer: directory of the transformer.
        masked_lm: whether the transformer is used with its masked-LM head, as SPLADE does.
        pooling: None for models that keep one vector per token.
        splade: pooling of SPLADE, "max" or "sum"; None for dense embeddings.
        log_twice: SPLADE's activation is log(1 + log(1 + relu)).
        dense: linear layers, in order.
        normalize: whether vectors are scaled to length 1.
        max_length: tokens to cut texts at; None if not stated.
        prompts: texts to put before an input, by name.
        default_prompt: name of the prompt to use where none is named.
        similarity: "cosine", "dot", "euclidean" or "manhattan".
    """

    transformer: Path
    masked_lm: bool = False
    pooling: Pooling | None = None
    splade: str | None = None
    log_twice: bool = False
    dense: tuple[Dense, ...] = ()
    normalize: bool = False
    max_length: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"

    @property
    def dimensions(self) -> int | None:
        """Size of an embedding, as the files state it; None where only the transformer tells it."""
        return self.dense[-1].out_features if self.dense else None


def is_sentence_transformers(path: Path) -> bool:
    """Whether a directory has a modules.json."""
    return (path / MODULES_FILE).is_file()


def read_modules(path: Path) -> Modules:
    """Read modules.json and the configuration of every module.

    Raises:
        CheckpointError: a file is missing or malformed; the message names it and the field.
        ExportError: a module of a kind that is not known; the message names it.
    """
    listed = _read(path / MODULES_FILE, list)
    found: dict[str, Any] = {"dense": ()}
    for number, entry in enumerate(listed):
        kind, folder = _entry(path, number, entry)
        if number == 0:
            if kind not in ("Transformer", "MLMTransformer"):
                raise ExportError(
                    f"{path / MODULES_FILE}: its first module is {kind}; only transformers can be exported"
                )
            found |= {
                "transformer": folder,
                "masked_lm": kind == "MLMTransformer",
                **_transformer(path, folder),
            }
        elif kind == "Pooling":
            found["pooling"] = _pooling(folder)
        elif kind == "SpladePooling":
            found |= _splade(folder)
        elif kind == "Dense":
            found["dense"] = (*found["dense"], _dense(folder))
        elif kind == "Normalize":
            found["normalize"] = True
        elif kind != "Dropout":  # does nothing outside of training
            raise ExportError(
                f"{path / MODULES_FILE}: module {number} is {kind}, which the export does not know"
            )
        if found.get("normalize") and kind == "Dense":
            raise ExportError(
                f"{path / MODULES_FILE}: module {number} is a Dense behind Normalize; that order is not known"
            )
    if "transformer" not in found:
        raise CheckpointError(f"{path / MODULES_FILE} lists no modules; restore it")
    if found["masked_lm"] != ("splade" in found):
        raise ExportError(f"{path / MODULES_FILE}: MLMTransformer and SpladePooling are only known together")
    return Modules(**found, **_prompts(path))


def module_files(path: Path) -> list[Path]:
    """The files of a sentence-transformers model, except the transformer's weights and tokenizer at the top.

    Raises:
        CheckpointError: modules.json is malformed.
    """
    listed = _read(path / MODULES_FILE, list)
    folders = [_entry(path, number, entry)[1] for number, entry in enumerate(listed)]
    names = (MODULES_FILE, "config_sentence_transformers.json", "sentence_bert_config.json")
    files = [path / name for name in names]
    # Of the transformer in a folder of its own, its settings; of later modules also their few weights.
    files += [file for folder in folders[:1] for file in sorted(folder.glob("*.json")) if folder != path]
    files += [
        file
        for folder in folders[1:]
        for file in (folder / "config.json", folder / "model.safetensors", folder / "pytorch_model.bin")
    ]
    return [file for file in dict.fromkeys(files) if file.is_file()]


def _read(file: Path, kind: type) -> Any:
    """The JSON document in `file`, a list or an object."""
    try:
        return json_fields.read(file, kind, _LARGEST_FILE)
    except OSError as error:
        raise CheckpointError(f"cannot read {file} ({error.strerror}); restore the model's files") from error
    except json_fields.MalformedJsonError as error:
        raise CheckpointError(f"{file}: {error}; restore the model's files") from error


def _entry(path: Path, number: int, entry: Any) -> tuple[str, Path]:
    """Kind and folder of one module; the folder stays inside `path`."""
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("type"), str)
        or not isinstance(entry.get("path"), str)
    ):
        raise CheckpointError(
            f"{path / MODULES_FILE}: module {number} must have a type and a path; restore the file"
        )
    folder = path / entry["path"]
    if not folder.resolve().is_relative_to(path.resolve()):
        raise CheckpointError(
            f"{path / MODULES_FILE}: module {number} has path {entry['path']!r}, outside of the model"
        )
    return entry["type"].rpartition(".")[2], folder


def _transformer(path: Path, folder: Path) -> dict[str, Any]:
    for file in (folder / "sentence_bert_config.json", path / "sentence_bert_config.json"):
        if file.is_file():
            length = _read(file, dict).get("max_seq_length")
            if length is not None and (type(length) is not int or length < 2):
                raise CheckpointError(
                    f"{file}: max_seq_length {length!r} must be a number of tokens; correct it"
                )
            return {"max_length": length}
    return {}


def _pooling(folder: Path) -> Pooling:
    file = folder / "config.json"
    config = _read(file, dict)
    named = config.get("pooling_mode")
    if named is not None:
        words = [named] if isinstance(named, str) else named if isinstance(named, list) else []
        modes = {_SPELLINGS.get(word, word) for word in words if isinstance(word, str)}
    else:
        modes = {mode for mode, key in POOLINGS.items() if config.get(key) is True}
    if not modes or not modes <= POOLINGS.keys():
        raise ExportError(
            f"{file}: its pooling is {sorted(modes) or 'not stated'}; known: {', '.join(POOLINGS)}"
        )
    return Pooling(
        tuple(mode for mode in POOLINGS if mode in modes), config.get("include_prompt") is not False
    )


def _splade(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    config = _read(file, dict)
    strategy, activation = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    if strategy not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise ExportError(
            f"{file}: pooling {strategy!r} with {activation!r} is not known; known: max, sum; relu, log1p_relu"
        )
    return {"splade": strategy, "log_twice": activation == "log1p_relu"}


def _dense(folder: Path) -> Dense:
    file = folder / "config.json"
    config = _read(file, dict)
    sizes = [config.get(key) for key in ("in_features", "out_features")]
    if not all(type(size) is int and 0 < size < 1 << 20 for size in sizes):
        raise CheckpointError(
            f"{file}: in_features and out_features must be positive integers; restore the file"
        )
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise ExportError(f"{file}: activation {name} is not known; known: {', '.join(_ACTIVATIONS)}")
    return Dense(
        folder, int(sizes[0] or 0), int(sizes[1] or 0), config.get("bias") is not False, _ACTIVATIONS[name]
    )


def _prompts(path: Path) -> dict[str, Any]:
    file = path / "config_sentence_transformers.json"
    if not file.is_file():
        return {}
    config = _read(file, dict)
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise CheckpointError(f"{file}: prompts must map names to texts; correct it")
    if default is not None and default not in prompts:
        raise CheckpointError(f"{file}: default_prompt_name {default!r} is not among its prompts; correct it")
    similarity = config.get("similarity_fn_name") or "cosine"
    return {"prompts": prompts, "default_prompt": default, "similarity": str(similarity)}
