"""From a model to a graph: capture with torch.onnx.

The graph keeps batch and sequence length open, calls its weights by the checkpoint's names, and is left unsimplified
so that the rewrite rules meet every linear layer in the one form in which it was written; simplify.py comes after them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aerogel.errors import ExportError, require
from aerogel.export.reference_model import TOLERANCE
from aerogel.export.torch_reference import TorchReference
from aerogel.hf.quiet import quiet
from aerogel.hf.reason import reason
from aerogel.ops.linear_function import IR_VERSION, OPSET

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

__all__ = ["capture"]

_PREFIX = "model."
# Long enough for a model that attends to its neighbourhood only to show it.
_MASK_TRIAL = 256


def capture(source: TorchReference) -> ir.Model:
    """The model as an ONNX graph of opset 18, with batch and sequence length open, not yet simplified.

    Raises:
        ExportError: torch.onnx cannot express the model.
    """
    require("onnxscript", "export")
    import torch

    example = source.tokenize(["a first text", "another"], max_length=16)
    tensors = tuple(torch.from_numpy(example[name]) for name in source.inputs)
    open_dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with quiet():
        module = _wrap(source)
        try:
            program = torch.onnx.export(
                module, tensors, dynamo=True, opset_version=OPSET, optimize=False, verbose=False,
                input_names=list(source.inputs), output_names=list(source.outputs),
                dynamic_shapes=((open_dims,) * len(tensors),),
            )  # fmt: skip
        except Exception as error:  # torch.onnx raises its own types and those of everything below it
            raise ExportError(
                f"torch.onnx cannot capture {type(source.model).__name__} ({reason(error)}); such models cannot be "
                "exported"
            ) from error
    assert program is not None  # as it would be for the older exporter alone
    model: ir.Model = program.model
    model.ir_version = IR_VERSION
    for value in list(model.graph.initializers.values()):
        # The wrapper is our own: in the file, weights have the names they have in the checkpoint.
        value.name = str(value.name).removeprefix(_PREFIX)
    return model


def _wrap(source: TorchReference) -> torch.nn.Module:
    """The model as a module of positional inputs and outputs that makes its attention mask only once."""
    import torch

    plain = not _takes_additive_mask(source)

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = source.model
            # Registered, so that its weights are initializers of the graph.
            self.head = source.head

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            named = dict(zip(source.inputs, inputs, strict=True))
            mask = named["attention_mask"]
            if not plain:
                named["attention_mask"] = _additive(named["attention_mask"])
            result = source.forward(named, mask)
            return tuple(result[name] for name in source.outputs)

    return Positional().eval()


def _additive(mask: torch.Tensor) -> torch.Tensor:
    """What to add to attention scores ``[batch, heads, sequence, sequence]`` for a mask ``[batch, sequence]``."""
    import torch

    return (1.0 - mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min


def _takes_additive_mask(source: TorchReference) -> bool:
    """Whether the model means the same by an additive mask of four dimensions as by the usual one of two.

    Most encoders of transformers use such a mask as it is. Their own way from two dimensions gathers over
    ``[batch, 1, sequence, sequence]``, where a row per text is all that padding needs. A model with a mask of its
    own making (local attention, DeBERTa) does not, and is captured as it is.
    """
    import torch

    length = min(source.max_length, _MASK_TRIAL)
    batch = source.tokenize(
        ["one word and another " * length, "short"], padding="max_length", max_length=length
    )
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    mask = tensors["attention_mask"]
    tensors["attention_mask"] = _additive(mask)
    try:
        with torch.inference_mode():
            result = source.forward(tensors, mask)
    except Exception:  # models check the shape of a mask in their own ways
        return False
    return all(
        np.abs(result[name].numpy() - expected).max() <= TOLERANCE * np.abs(expected).max()
        for name, expected in source.run(batch).items()
    )
