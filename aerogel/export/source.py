"""The model of a checkpoint directory as PyTorch runs it: what is captured, and what the artifact is compared with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from aerogel.checkpoint import not_finite
from aerogel.errors import CheckpointError, ExportError, require
from aerogel.export.kinds import check_kind
from aerogel.export.reason import reason
from aerogel.limits import longest_sequence
from aerogel.quiet import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Source", "load_model", "load_source", "model_class"]

# Which outputs are exported: those of the first line that the model gives in full.
_OUTPUTS = (
    ("logits",), ("start_logits", "end_logits"), ("prediction_logits", "seq_relationship_logits"),
    ("last_hidden_state",),
)  # fmt: skip
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OFFLINE = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Source:
    """A model as PyTorch runs it: what is captured, and the reference that the artifact must match.

    Attributes:
        model: float32, in evaluation mode, on the CPU.
        tokenizer: the checkpoint's own.
        inputs: names of the inputs it takes, each int64 ``[batch, sequence]``.
        outputs: names of the outputs that are exported.
        max_length: longest sequence that both model and tokenizer allow.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_length: int

    def tokenize(
        self, texts: list[str], pairs: list[str] | None = None, **options: Any
    ) -> dict[str, np.ndarray]:
        """Model inputs for texts, or text pairs, padded to the longest unless `options` say otherwise."""
        options = {"padding": True, "truncation": True, "max_length": self.max_length} | options
        encoded = self.tokenizer(texts, pairs, return_tensors="np", **options)
        return {name: np.asarray(encoded[name], np.int64) for name in self.inputs}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of the PyTorch model, by name.

        Raises:
            ExportError: the model cannot run on inputs of these shapes.
        """
        import torch

        result = _forward(self.model, {name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: result[name].numpy() for name in self.outputs}


def load_source(path: Path) -> Source:
    """Load the model and tokenizer of a checkpoint directory.

    Only safetensors weights and the classes of the installed transformers are used; code that a checkpoint brings
    along is never run.

    Raises:
        CheckpointError: transformers cannot read the directory, or it lacks some of the model's weights.
        ExportError: the model is of a kind that cannot be exported.
        MissingExtraError: torch or transformers is not installed.
    """
    require("torch", "export")
    require("transformers", "export")
    with quiet():
        check_kind(*model_class(path))
        return _describe(load_model(path), _load_tokenizer(path))


def load_model(path: Path, attention: str | None = "eager") -> PreTrainedModel:
    """The model of a checkpoint directory in float32 and evaluation mode, of the class its configuration names.

    Args:
        path: the directory.
        attention: the implementation of transformers to use; None for the one it finds best. What is captured must be
            made of plain operations, which "eager" is.

    Raises:
        CheckpointError: transformers cannot read the directory, it lacks some of the model's weights, or one of them is
            NaN or infinite.
        ExportError: transformers does not have the class, or lacks a package that it needs.
    """
    import torch

    config, kind = model_class(path)
    name = kind.__name__
    try:
        model, info = kind.from_pretrained(
            path, config=config, dtype=torch.float32, attn_implementation=attention, use_safetensors=True,
            output_loading_info=True, **_OFFLINE,
        )  # fmt: skip
    except Exception as error:
        raise CheckpointError(
            f"{path}: transformers cannot load {name} ({reason(error)}); restore config.json and the weights"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{path}: {name} needs {missing[0]}, which the weights lack; save the checkpoint again"
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
        ExportError: transformers does not have the class, or lacks a package that it needs.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(path, **_OFFLINE)
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
        raise ExportError(f"{name} needs {', '.join(map(str, lacks))}; install what is missing")
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not known:
        raise ExportError(
            f"{path / 'config.json'}: architectures names {name}, which transformers does not have"
        )
    return config, kind


def _load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    import transformers

    # Without it transformers makes up an empty tokenizer of the model's kind, and says nothing.
    if not (path / "tokenizer.json").is_file():
        raise CheckpointError(f"{path / 'tokenizer.json'} is missing; save the model's fast tokenizer there")
    try:
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(path, **_OFFLINE)
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
            f"{path / 'tokenizer_config.json'}: model_max_length {longest!r} is no number of tokens from {special}, "
            "what a pair takes without its texts; correct it"
        )
    return tokenizer


def _describe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Source:
    """Find out which inputs the model and its tokenizer share, what comes out, and how long a text may be."""
    import torch

    name = type(model).__name__
    known = _vocabulary(model)
    if len(tokenizer) > known:
        raise CheckpointError(
            f"the tokenizer has {len(tokenizer)} tokens and {name} embeds {known}; it is another model's tokenizer"
        )
    accepted = set(inspect.signature(model.forward).parameters)
    if getattr(model.config, "type_vocab_size", 0) < 2:
        accepted.discard("token_type_ids")
    accepted &= set(tokenizer("a text", "its pair"))
    inputs = tuple(name for name in _INPUTS if name in accepted)
    if inputs[:2] != _INPUTS[:2]:
        raise ExportError(
            f"{name} and its tokenizer do not share input_ids and attention_mask; only text encoders do"
        )
    for length in (1, 4):
        result = _forward(model, {name: torch.ones(1, length, dtype=torch.int64) for name in inputs})
    outputs = next((names for names in _OUTPUTS if all(name in result for name in names)), None)
    if outputs is None:
        raise ExportError(f"{name} gives {', '.join(result)}; known are logits and last_hidden_state")
    return Source(model, tokenizer, inputs, outputs, longest_sequence(model, tokenizer))


def _vocabulary(model: PreTrainedModel) -> int:
    """How many tokens the model embeds.

    Raises:
        ExportError: it does not look tokens up in a table.
    """
    try:
        return len(cast("torch.Tensor", model.get_input_embeddings().weight))
    except (AttributeError, NotImplementedError) as error:
        raise ExportError(
            f"{type(model).__name__} has no table of token embeddings, so its tokenizer cannot be checked; "
            "such models cannot be exported"
        ) from error


def _forward(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> Any:
    """What the model gives.

    Raises:
        ExportError: it cannot run on inputs of these names and shapes.
    """
    import torch

    try:
        with torch.inference_mode():
            return model(**inputs)
    except Exception as error:  # a model may raise anything over a length or an input that it does not expect
        shape = next(iter(inputs.values())).shape
        raise ExportError(
            f"{type(model).__name__} cannot run on {', '.join(inputs)} of shape {list(shape)} "
            f"({reason(error)}); an exported model takes any batch and length"
        ) from error
