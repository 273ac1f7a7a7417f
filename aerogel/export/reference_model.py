"""The model that an export starts from, as something to run: what an artifact is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.hf.shrink import ShrinkReport

__all__ = ["TOLERANCE", "Batch", "ReferenceModel"]

TOLERANCE = 1e-4
"""Of float32 computations that differ only in the order of their sums."""

Batch = Mapping[str, np.ndarray]
"""Arrays by the name of a model's input or output."""


class ReferenceModel(ABC):
    """A model to export.

    Attributes:
        name: what messages call it, such as its class.
        runtime: what runs it, such as "PyTorch".
        inputs: names of the inputs it takes, each ``[batch, sequence]``.
        outputs: names of the outputs that are exported.
        max_length: longest sequence that both model and tokenizer allow.
        tolerance: largest difference of an output that verification allows, relative to the output's largest value.
        fixed: batch and sequence length that the model is fixed to; None where any will do.
        tokenizer: transformers' tokenizer of the model; None if it has no such tokenizer.
    """

    name: str
    tolerance: float = TOLERANCE
    fixed: tuple[int | None, int | None] = (None, None)
    runtime: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_length: int
    tokenizer: Any

    @abstractmethod
    def tokenize(
        self, texts: list[str], pairs: list[str] | None = None, **options: Any
    ) -> dict[str, np.ndarray]:
        """Model inputs for texts or pairs of texts.

        Args:
            texts: one for each row.
            pairs: second text of each row.
            options: `max_length`, and `padding` ("max_length", or True for the longest).
        """

    @abstractmethod
    def run(self, inputs: Batch) -> dict[str, np.ndarray]:
        """Outputs by name."""

    @abstractmethod
    def graph(self) -> ir.Model:
        """The model as an ONNX graph, not yet simplified; its weights have the names of `parameters`.

        Raises:
            ExportError: it cannot be expressed.
        """

    def as_given(self) -> ReferenceModel | None:
        """The model as its file has it, where this one is a normal form of it that must agree; else None."""
        return None

    def left_out(self) -> dict[str, dict[str, str]]:
        """Outputs and weights that are not exported: ``{"outputs": {name: reason}, "weights": {name: reason}}``."""
        return {"outputs": {}, "weights": {}}

    @abstractmethod
    def parameters(self) -> Mapping[str, np.ndarray]:
        """All weights by name."""

    @abstractmethod
    def rounded(self, values: Mapping[str, np.ndarray]) -> ReferenceModel:
        """The same model with other values of some weights."""

    def compacted(self) -> tuple[ReferenceModel, ShrinkReport]:
        """The same model without heads and neurons that are wholly pruned, and their numbers.

        Raises:
            ExportError: the heads and neurons of the model are not known.
        """
        raise ExportError(
            f"{self.name}: --format compact needs the model's modules, which {self.runtime} does not have; export the "
            "directory that the file was made from, or use another format"
        )

    @abstractmethod
    def round_activations(self, matrices: Mapping[str, str]) -> None:
        """Round the inputs of linear layers as their kernels do. In place.

        Args:
            matrices: value type of each weight, by name.

        Raises:
            ExportError: a layer whose input cannot be rounded.
        """
