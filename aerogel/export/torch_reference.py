"""A model of transformers as PyTorch runs it: what is captured, and what the artifact is compared with."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from aerogel.errors import CheckpointError, ExportError, require
from aerogel.export.kinds import check_kind
from aerogel.export.reference_model import Batch, ReferenceModel
from aerogel.hf.limits import longest_sequence, sentence_limit
from aerogel.hf.load import load_model, load_tokenizer, model_class
from aerogel.hf.quiet import quiet
from aerogel.hf.reason import reason
from aerogel.ops.value_type import VALUE_TYPES

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aerogel.hf.sentence_transformers import Modules
    from aerogel.hf.shrink import ShrinkReport

__all__ = ["TorchReference", "load_embedder", "load_reference"]

# Which outputs are exported: those of the first line that the model gives in full.
_OUTPUTS = (
    ("logits",), ("start_logits", "end_logits"), ("prediction_logits", "seq_relationship_logits"),
    ("last_hidden_state",),
)  # fmt: skip
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_UNLIMITED = 1 << 30


class TorchReference(ReferenceModel):
    """See the module's docstring.

    Attributes:
        model: float32, in evaluation mode, on the CPU.
        head: module behind the model, called with (token states or logits, attention mask); None for none.
    """

    runtime = "PyTorch"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        max_length: int,
        head: torch.nn.Module | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.inputs = inputs
        self.outputs = outputs
        self.max_length = max_length
        self.head = head
        self.name = type(model).__name__

    def tokenize(
        self, texts: list[str], pairs: list[str] | None = None, **options: Any
    ) -> dict[str, np.ndarray]:
        """See `ReferenceModel.tokenize`."""
        options = {"padding": True, "truncation": True, "max_length": self.max_length} | options
        encoded = self.tokenizer(texts, pairs, return_tensors="np", **options)
        return {name: np.asarray(encoded[name], np.int64) for name in self.inputs}

    def run(self, inputs: Batch) -> dict[str, np.ndarray]:
        """See `ReferenceModel.run`.

        Raises:
            ExportError: the model cannot run on inputs of these shapes.
        """
        import torch

        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.inference_mode(), self._named_failures(tensors):
            result = self.forward(tensors, tensors["attention_mask"])
        return {name: result[name].numpy() for name in self.outputs}

    def forward(self, inputs: Mapping[str, torch.Tensor], mask: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Outputs of model and head.

        Args:
            inputs: of the model; its attention mask may be an additive one.
            mask: ``[batch, sequence]``, 1 where a token is real, for the head.
        """
        result: Mapping[str, torch.Tensor] = self.model(**inputs)
        if self.head is None:
            return result
        states = result["logits"] if "logits" in result else result["last_hidden_state"]
        found = {self.outputs[0]: self.head(states, mask)}
        return found | {name: result["last_hidden_state"] for name in self.outputs[1:]}

    def left_out(self) -> dict[str, dict[str, str]]:
        """See `ReferenceModel.left_out`."""
        from aerogel.export.left_out import left_out

        return left_out(self)

    @contextlib.contextmanager
    def _named_failures(self, inputs: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Turn whatever a model raises over a length or an input that it does not expect into an ExportError."""
        try:
            yield
        except Exception as error:
            shape = list(next(iter(inputs.values())).shape)
            raise ExportError(
                f"{self.name} cannot run on {', '.join(inputs)} of shape {shape} ({reason(error)}); "
                "an exported model takes any batch and length"
            ) from error

    def describe_outputs(self) -> Mapping[str, Any]:
        """Everything that the model gives, tried on one and on four tokens.

        Raises:
            ExportError: it cannot run.
        """
        import torch

        result: Mapping[str, Any] = {}
        for length in (1, 4):
            tensors = {name: torch.ones(1, length, dtype=torch.int64) for name in self.inputs}
            with torch.inference_mode(), self._named_failures(tensors):
                result = self.model(**tensors)
        return result

    def graph(self) -> ir.Model:
        """See `ReferenceModel.graph`."""
        from aerogel.export.capture import capture

        return capture(self)

    def parameters(self) -> Mapping[str, np.ndarray]:
        """See `ReferenceModel.parameters`."""
        return {name: value.detach().numpy() for name, value in self.model.named_parameters()}

    def rounded(self, values: Mapping[str, np.ndarray]) -> TorchReference:
        """See `ReferenceModel.rounded`."""
        import torch

        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        for name, value in values.items():
            other.model.get_parameter(name).data = torch.from_numpy(value)
        return other

    def compacted(self) -> tuple[TorchReference, ShrinkReport]:
        """See `ReferenceModel.compacted`."""
        from aerogel.hf.shrink import remove_dead

        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        return other, remove_dead(other.model)

    def round_activations(self, matrices: Mapping[str, str]) -> None:
        """See `ReferenceModel.round_activations`."""
        import torch

        for name, value_type in matrices.items():
            if not VALUE_TYPES.get(value_type).rounds_activations:
                continue
            layer = self.model.get_submodule(name.rpartition(".")[0])
            if not isinstance(layer, torch.nn.Linear):
                raise ExportError(
                    f"{name} belongs to a {type(layer).__name__}, whose input cannot be rounded; use --weights fp32"
                )
            layer.register_forward_pre_hook(_rounding(value_type))


def load_reference(path: Path, weights: Mapping[str, torch.Tensor] | None = None) -> TorchReference:
    """Load the model and tokenizer of a directory of transformers; `weights` instead of the directory's, if given.

    Weights are read as tensors alone, with the classes of the installed transformers; code that a directory brings is
    never run.

    Raises:
        CheckpointError: transformers cannot read the directory, or it lacks some of the model's weights.
        ExportError: the model is of a kind that cannot be exported.
        MissingExtraError: torch or transformers is not installed.
    """
    require("torch", "export")
    require("transformers", "export")
    with quiet():
        check_kind(*model_class(path))
        model, tokenizer = load_model(path, weights=weights), load_tokenizer(path)
        limit = min(longest_sequence(model, tokenizer), sentence_limit(path) or _UNLIMITED)
        reference = TorchReference(model, tokenizer, _shared_inputs(model, tokenizer), (), limit)
        result = reference.describe_outputs()
    outputs = next((names for names in _OUTPUTS if all(name in result for name in names)), None)
    if outputs is None:
        raise ExportError(
            f"{reference.name} gives {', '.join(result)}; known are logits and last_hidden_state"
        )
    reference.outputs = outputs
    return reference


def load_embedder(
    modules: Modules, *, token_embeddings: bool = False, weights: Mapping[str, torch.Tensor] | None = None
) -> TorchReference:
    """Load a sentence-transformers model: its transformer, and what follows it as the head.

    Args:
        modules: as `aerogel.hf.sentence_transformers.read_modules` gives them.
        token_embeddings: export the token states as well, as output ``token_embeddings``.
        weights: the transformer's weights; None to read them from its directory.

    Raises:
        CheckpointError: a file is missing or damaged, or sizes do not fit.
        ExportError: the model is of a kind that cannot be exported.
        MissingExtraError: torch or transformers is not installed.
    """
    require("torch", "export")
    require("transformers", "export")
    from aerogel.hf.pooling import head_of

    path = modules.transformer
    with quiet():
        head_name = "MaskedLM" if modules.masked_lm else ""
        check_kind(*model_class(path, head_name))
        model, tokenizer = load_model(path, head=head_name, weights=weights), load_tokenizer(path)
        head, output = head_of(modules)
        outputs = (
            (output, "token_embeddings") if token_embeddings and output == "sentence_embedding" else (output,)
        )
        limit = min(longest_sequence(model, tokenizer), modules.max_length or _UNLIMITED)
        inputs = _shared_inputs(model, tokenizer)
        reference = TorchReference(model, tokenizer, inputs, outputs, limit, head)
        reference.describe_outputs()
        try:
            reference.run({name: np.ones((1, 4), np.int64) for name in inputs})
        except ExportError as error:
            raise CheckpointError(
                f"{path}: the modules behind it do not fit it ({error}); restore them"
            ) from error
    return reference


def _shared_inputs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Inputs that the model takes and its tokenizer gives.

    Raises:
        CheckpointError: the tokenizer has more tokens than the model embeds.
        ExportError: they do not share input_ids and attention_mask.
    """
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
    return inputs


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


def _rounding(value_type: str) -> Callable[[Any, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]:
    """A hook that rounds the input of a linear layer."""
    kind = VALUE_TYPES.get(value_type)
    return lambda _, inputs: (kind.activations(inputs[0]),)
