"""The model of a checkpoint directory as PyTorch runs it: what is captured, and what the artifact is compared with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from aerogel.errors import CheckpointError, ExportError, require
from aerogel.export.kinds import check_kind
from aerogel.hf.limits import longest_sequence, sentence_limit
from aerogel.hf.load import OFFLINE, load_model, model_class
from aerogel.hf.quiet import quiet
from aerogel.hf.reason import reason

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["ReferenceModel", "load_reference"]

# Which outputs are exported: those of the first line that the model gives in full.
_OUTPUTS = (
    ("logits",), ("start_logits", "end_logits"), ("prediction_logits", "seq_relationship_logits"),
    ("last_hidden_state",),
)  # fmt: skip
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class ReferenceModel:
    """A model as PyTorch runs it: what is captured, and the reference that the artifact must match.

    Attributes:
        model: float32, in evaluation mode, on the CPU.
        tokenizer: the checkpoint's own.
        inputs: names of the inputs it takes, each int64 ``[batch, sequence]``.
        outputs: names of the outputs that are exported.
        max_length: longest sequence that model, tokenizer and sentence-transformers' configuration all allow.
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


def load_reference(path: Path) -> ReferenceModel:
    """Load the model and tokenizer of a checkpoint directory.

    Weights are read as tensors alone, with the classes of the installed transformers; code that a checkpoint brings
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
        source = _describe(load_model(path), _load_tokenizer(path))
    limit = sentence_limit(path)
    return source if limit is None else replace(source, max_length=min(limit, source.max_length))


def _load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
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
            f"{path / 'tokenizer_config.json'}: model_max_length {longest!r} is no number of tokens from {special}, "
            "what a pair takes without its texts; correct it"
        )
    return tokenizer


def _describe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> ReferenceModel:
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
    return ReferenceModel(model, tokenizer, inputs, outputs, longest_sequence(model, tokenizer))


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
