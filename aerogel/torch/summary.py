"""Summarize the sparse and dense layers of a model."""

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
        block: (rows, cols) of the stored blocks; (1, 1) without blocks.
        kept: number of nonzero weights.
        stored: number of stored weights, including zeros in blocks.
        bytes: bytes of the stored weight, including indices.
        dense_bytes: bytes of the weight if it were dense.
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
        """Nonzero weights over all weights."""
        return self.kept / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class Summary:
    """All linear layers of a model. As text: one line per layer, then totals of the sparse layers."""

    layers: tuple[LayerSummary, ...]

    @property
    def sparse(self) -> tuple[LayerSummary, ...]:
        """The sparse layers."""
        return tuple(layer for layer in self.layers if layer.format != "dense")

    @property
    def density(self) -> float:
        """Nonzero weights over all weights of the sparse layers; 1 without sparse layers."""
        size = sum(layer.shape[0] * layer.shape[1] for layer in self.sparse)
        return sum(layer.kept for layer in self.sparse) / size if size else 1.0

    @property
    def bytes(self) -> int:
        """Bytes of the weights of all linear layers."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def dense_bytes(self) -> int:
        """Bytes of these weights if all were dense."""
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
                f"kept; {self.bytes / 1e6:.2f} MB instead of {self.dense_bytes / 1e6:.2f} MB",
            ]
        )


def report(model: nn.Module) -> Summary:
    """Summarize the linear layers of a model."""
    found: Iterable[LayerSummary | None] = (_layer(name, module) for name, module in model.named_modules())
    return Summary(tuple(layer for layer in found if layer))


def _layer(name: str, module: nn.Module) -> LayerSummary | None:
    tensors: tuple[torch.Tensor, ...]
    if isinstance(module, SparseLayer):
        tensors, format, block = module.stored_tensors(), module.format, module.block
    elif isinstance(module, nn.Linear):
        # A weight computed by a parametrization or another hook is read through its attribute.
        weight = current(name, module) if "weight_mask" in module._buffers else module.weight
        assert weight is not None  # an nn.Linear always has a weight
        tensors, format, block = (weight,), "dense", (1, 1)
    else:
        return None
    shape = (module.out_features, module.in_features)
    stored = tensors[0]
    return LayerSummary(
        name, shape, format, block, int(stored.count_nonzero()), stored.numel(),
        sum(tensor.numel() * tensor.itemsize for tensor in tensors), shape[0] * shape[1] * stored.itemsize,
    )  # fmt: skip


def _storage(layer: LayerSummary) -> str:
    if layer.format == "dense":
        return "dense"
    blocks = f" {layer.block[0]}x{layer.block[1]}" if layer.format == "bsr" else ""
    return f"{layer.format}{blocks}, {layer.stored / (layer.shape[0] * layer.shape[1]):.1%} stored"
