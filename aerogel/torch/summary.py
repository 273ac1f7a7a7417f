"""What of a model is sparse, as it stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from aerogel.torch.layer import SparseLayer
from aerogel.torch.linears import current

__all__ = ["LayerSummary", "Summary", "report"]


@dataclass(frozen=True)
class LayerSummary:
    """One linear layer.

    Attributes:
        name: path of the module in the model.
        shape: (out_features, in_features).
        format: "csr", "bsr", on a GPU "packed" or "2:4", or "dense".
        block: (rows, cols) of the stored blocks; (1, 1) where there are none.
        kept: weights that are not zero.
        stored: weights stored, zeros inside blocks included.
        bytes: of the weight as it is stored, indices included.
        dense_bytes: of the same weight stored dense.
    """

    name: str
    shape: tuple[int, int]
    format: str
    block: tuple[int, int]
    kept: int
    stored: int
    bytes: int
    dense_bytes: int

    @property
    def density(self) -> float:
        """Share of the weights that are not zero."""
        return self.kept / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class Summary:
    """All linear layers of a model; printed, a line each and the totals of those that are sparse."""

    layers: tuple[LayerSummary, ...]

    @property
    def sparse(self) -> tuple[LayerSummary, ...]:
        """The layers that are not dense."""
        return tuple(layer for layer in self.layers if layer.format != "dense")

    @property
    def density(self) -> float:
        """Share of weights that are not zero over the sparse layers; 1 where there are none."""
        size = sum(layer.shape[0] * layer.shape[1] for layer in self.sparse)
        return sum(layer.kept for layer in self.sparse) / size if size else 1.0

    @property
    def bytes(self) -> int:
        """Bytes of the weights of all linear layers."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the same weights, were all stored dense."""
        return sum(layer.dense_bytes for layer in self.layers)

    def __str__(self) -> str:
        lines = [
            f"{layer.name or '(model)'}: {layer.shape[0]}x{layer.shape[1]}, {layer.density:.1%} kept, {_storage(layer)}"
            for layer in self.layers
        ]
        return "\n".join(
            [
                *lines,
                f"{len(self.sparse)} of {len(self.layers)} linear layers sparse, {self.density:.1%} of their weights "
                f"kept; {self.bytes / 1e6:.2f} MB instead of {self.dense_bytes / 1e6:.2f}",
            ]
        )


def report(model: nn.Module) -> Summary:
    """Summary of the linear layers of a model."""
    found: Iterable[LayerSummary | None] = (_layer(name, module) for name, module in model.named_modules())
    return Summary(tuple(layer for layer in found if layer))


def _layer(name: str, module: nn.Module) -> LayerSummary | None:
    tensors: tuple[torch.Tensor, ...]
    if isinstance(module, SparseLayer):
        tensors, form, block = module.stored_tensors(), module.format, module.block
    elif isinstance(module, nn.Linear):
        # What a parametrization or another hook computes is counted as it stands.
        weight = current(name, module) if "weight_mask" in module._buffers else module.weight
        assert weight is not None  # an nn.Linear has one
        tensors, form, block = (weight,), "dense", (1, 1)
    else:
        return None
    shape = (module.out_features, module.in_features)
    stored = tensors[0]
    return LayerSummary(
        name, shape, form, block, int(stored.count_nonzero()), stored.numel(),
        sum(tensor.numel() * tensor.itemsize for tensor in tensors), shape[0] * shape[1] * stored.itemsize,
    )  # fmt: skip


def _storage(layer: LayerSummary) -> str:
    if layer.format == "dense":
        return "dense"
    blocks = f" {layer.block[0]}x{layer.block[1]}" if layer.format == "bsr" else ""
    return f"{layer.format}{blocks}, {layer.stored / (layer.shape[0] * layer.shape[1]):.1%} stored"
