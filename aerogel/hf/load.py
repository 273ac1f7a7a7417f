"""Load transformers models from a directory without running code from it."""

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
"""Options of ``from_pretrained``: download nothing, run no code from the directory."""


def load_model(path: Path, attention: str | None = "eager") -> PreTrainedModel:
    """Load the model of a directory in float32 and evaluation mode, as the class in its configuration.

    Args:
        path: the directory.
        attention: attention implementation of transformers; None for its default. Capturing a model needs "eager",
            which consists of plain operations.

    Raises:
        CheckpointError: transformers cannot read the directory, a weight is missing, or a weight is NaN or infinite.
        ExportError: transformers does not have the class.
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
            f"{path}: {name} needs {missing[0]}, which the weights lack; write the checkpoint again"
        )
    for parameter, value in model.named_parameters():
        if not bool(value.isfinite().all()):
            raise not_finite(path, parameter)
    loaded: PreTrainedModel = model.eval()
    return loaded


def model_class(path: Path) -> tuple[Any, Any]:
    """The configuration in a directory, and the transformers class that it names.

    Raises:
        CheckpointError: transformers cannot read config.json.
        ExportError: transformers does not have the class, or cannot import it.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(path, **OFFLINE)
    except Exception as error:  # invalid fields and unknown model types raise a dozen exception types
        raise CheckpointError(
            f"transformers cannot read {path / 'config.json'} ({reason(error)}); restore it"
        ) from error
    name = str((config.architectures or ["nothing"])[0])
    try:
        kind: Any = getattr(transformers, name, None)
    except ImportError as error:
        raise ExportError(
            f"transformers cannot import {name} ({reason(error)}); install what it needs"
        ) from error
    # For a class that needs a missing package, transformers has a placeholder.
    if isinstance(kind, type) and (missing := getattr(kind, "_backends", None)):
        raise ExportError(f"{name} needs {', '.join(map(str, missing))}; install these packages")
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not known:
        raise ExportError(
            f"{path / 'config.json'}: architectures names {name}, which transformers does not have; "
            "install a release that has it"
        )
    return config, kind
