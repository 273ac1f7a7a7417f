"""Load transformers models from a directory without running code from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint import not_finite
from aerogel.errors import AerogelError, CheckpointError, ExportError
from aerogel.hf.pickled import weight_options
from aerogel.hf.reason import reason
from aerogel.hf.weights import plain_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["OFFLINE", "load_model", "load_tokenizer", "model_class"]

OFFLINE = {"local_files_only": True, "trust_remote_code": False}
"""Options of ``from_pretrained``: download nothing, run no code from the directory."""


def load_model(
    path: Path,
    attention: str | None = "eager",
    head: str | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> PreTrainedModel:
    """Load the model of a directory in float32 and evaluation mode.

    Args:
        path: the directory.
        attention: the attention implementation of transformers to use; None for its default. An export needs plain
            operations, which "eager" is.
        head: see `model_class`.
        weights: the model's weights by name; None to read them from the directory.

    Raises:
        CheckpointError: transformers cannot read the directory, it lacks some of the model's weights, or one of them is
            NaN or infinite.
        ExportError: transformers does not have the class.
    """
    import torch

    config, kind = model_class(path, head)
    name = kind.__name__
    options = weight_options(path) if weights is None else {"weights_only": True}
    try:
        merged = dict(weights) if weights is not None else plain_weights(path)
        if merged is not None and hasattr(config, "quantization_config"):
            # The weights are plain now.
            del config.quantization_config
        model, info = kind.from_pretrained(
            None if merged else path, config=config, dtype=torch.float32, attn_implementation=attention,
            output_loading_info=True, state_dict=merged, **({} if merged else options), **OFFLINE,
        )  # fmt: skip
    except AerogelError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: transformers cannot load {name} ({reason(error)}); restore config.json and the weights"
        ) from error
    # Without a head nothing reads the pooler, and many files lack its weights.
    optional = ("pooler.",) if head == "" else ()
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith(optional)):
        raise CheckpointError(
            f"{path}: {name} needs {missing[0]}, which the weights lack; save the model again"
        )
    for parameter, value in model.named_parameters():
        if not bool(value.isfinite().all()):
            raise not_finite(path, parameter)
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a directory.

    Raises:
        CheckpointError: tokenizer.json is missing, transformers cannot load it, or its limit is impossible.
    """
    import transformers

    # Without it transformers makes up an empty tokenizer of the model's kind, and says nothing.
    if not (path / "tokenizer.json").is_file():
        raise CheckpointError(f"{path / 'tokenizer.json'} is missing; save the model's fast tokenizer there")
    try:
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(path, **OFFLINE)
    except Exception as error:
        raise CheckpointError(
            f"{path / 'tokenizer.json'} cannot be loaded by transformers ({reason(error)}); "
            "save the model's tokenizer again"
        ) from error
    longest: Any = tokenizer.model_max_length
    special = tokenizer.num_special_tokens_to_add(pair=True)
    # The comparison is written so that NaN fails it. A tokenizer without a limit says 1e30.
    if type(longest) not in (int, float) or not longest >= special:
        raise CheckpointError(
            f"{path / 'tokenizer_config.json'}: model_max_length {longest!r} must be at least {special}, the tokens "
            "of a pair of empty texts; correct it"
        )
    return tokenizer


def model_class(path: Path, head: str | None = None) -> tuple[Any, Any]:
    """The configuration of a directory, and the class of its model.

    Args:
        path: the directory.
        head: what follows ``AutoModelFor`` in the name of the class to use; "" for the model without a head; None for
            the class that config.json names, or the model without a head where it names none.

    Raises:
        CheckpointError: transformers cannot read config.json.
        ExportError: transformers does not have the class.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(path, **OFFLINE)
    except Exception as error:  # invalid fields and unknown model types raise a dozen exception types
        raise CheckpointError(
            f"transformers cannot read {path / 'config.json'} ({reason(error)}); restore it"
        ) from error
    if head is not None or not config.architectures:
        return config, _auto_class(path, config, head or "")
    name = str(config.architectures[0])
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


def _auto_class(path: Path, config: Any, head: str) -> Any:
    """The class that transformers has for a configuration and a head."""
    import transformers

    name = f"AutoModelFor{head}" if head else "AutoModel"
    try:
        found = getattr(transformers, name)._model_mapping[type(config)]
    except KeyError as error:
        raise ExportError(
            f"{path / 'config.json'}: transformers has no {name} for {config.model_type}"
        ) from error
    return found[0] if isinstance(found, tuple | list) else found
