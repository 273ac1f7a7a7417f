"""Loading models of transformers from a directory, safely: tensors alone, and no code that a directory brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint import not_finite
from aerogel.errors import CheckpointError, ExportError
from aerogel.hf.pickled import weight_options
from aerogel.hf.reason import reason

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["OFFLINE", "load_model", "model_class"]

OFFLINE = {"local_files_only": True, "trust_remote_code": False}
"""How a directory is opened: nothing is downloaded, and its code is never run."""


def load_model(path: Path, attention: str | None = "eager") -> PreTrainedModel:
    """The model of a checkpoint directory in float32 and evaluation mode, of the class its configuration names.

    Args:
        path: the directory.
        attention: the implementation of transformers to use; None for the one it finds best. What is captured must be
            made of plain operations, which "eager" is.

    Raises:
        CheckpointError: transformers cannot read the directory, it lacks some of the model's weights, or one of them is
            NaN or infinite.
        ExportError: the class is none of transformers.
    """
    import torch

    config, kind = model_class(path)
    name, weights = kind.__name__, weight_options(path)
    try:
        model, info = kind.from_pretrained(
            path, config=config, dtype=torch.float32, attn_implementation=attention, output_loading_info=True,
            **weights, **OFFLINE,
        )  # fmt: skip
    except Exception as error:
        raise CheckpointError(
            f"{path}: transformers cannot load {name} ({reason(error)}); restore config.json and the weights"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{path}: {name} needs {missing[0]}, which the weights lack; write the checkpoint anew"
        )
    for parameter, value in model.named_parameters():
        if not bool(value.isfinite().all()):
            raise not_finite(path, parameter)
    loaded: PreTrainedModel = model.eval()
    return loaded


def model_class(path: Path) -> tuple[Any, Any]:
    """The configuration in a folder, and the class of transformers that it names.

    Raises:
        CheckpointError: transformers cannot read config.json.
        ExportError: the class is none of transformers.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(path, **OFFLINE)
    except Exception as error:  # a field of another type, an unknown kind: any of a dozen types
        raise CheckpointError(
            f"{path / 'config.json'} cannot be read by transformers ({reason(error)}); restore it"
        ) from error
    name = str((config.architectures or ["nothing"])[0])
    try:
        kind: Any = getattr(transformers, name, None)
    except ImportError as error:
        raise ExportError(
            f"transformers cannot import {name} ({reason(error)}); install what it needs"
        ) from error
    # Where a package is missing, transformers has a class without a model in its place.
    if isinstance(kind, type) and (lacks := getattr(kind, "_backends", None)):
        raise ExportError(f"{name} needs {', '.join(map(str, lacks))}; install what is missing of it")
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not known:
        raise ExportError(
            f"{path / 'config.json'}: architectures names {name}, which transformers does not have"
        )
    return config, kind
