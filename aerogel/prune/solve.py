"""Prune one matrix: choose the weights to keep and solve for their values, so that its outputs change least.

The error of a pruned matrix V in place of W is

    E(V) = sum over tokens of |W x - V z|^2 = tr(W D W^T) - 2 tr(W C V^T) + tr(V H V^T)

with the inputs x of the dense and z of the pruned model and D, C, H = `Moments.dense`, `.cross`, `.pruned`. Without a
mask its least value is at W C H^-1. The mask is found by the alternating direction method of multipliers with a density
that falls from step to step (Boza 2024, "Fast and effective weight update for pruned large language models",
algorithm 1); then the kept weights of each row solve their normal equations exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aerogel.errors import TrainingError
from aerogel.prune.moments import Moments
from aerogel.sparse.masks import top_masks

__all__ = ["Pruned", "prune_matrix"]

# Steps of the method; the density reaches its end after the first half.
_STEPS = 30
# Floats of the normal equations that are solved at a time: 256 MiB.
_CHUNK = 1 << 26


@dataclass(frozen=True)
class Pruned:
    """A pruned matrix.

    Attributes:
        weight: float32 ``[out, in]``, zero where `mask` is false.
        mask: boolean ``[out, in]``.
        error: E(weight) / tr(W D W^T), the error relative to the outputs of the dense matrix.
    """

    weight: Tensor
    mask: Tensor
    error: float


def prune_matrix(
    name: str, weight: Tensor, sums: Moments, density: float, block: tuple[int, int], damping: float
) -> Pruned:
    """Prune a matrix.

    Args:
        name: for messages.
        weight: W, float32 ``[out, in]``.
        sums: moments of its inputs.
        density: fraction of its blocks to keep.
        block: (rows, cols) kept or pruned together.
        damping: fraction of the mean of H's diagonal that is added to it.

    Raises:
        TrainingError: the moments are not finite, or all zero.
    """
    diagonal = sums.pruned.diagonal()
    if not bool(torch.isfinite(sums.pruned).all()) or float(diagonal.mean()) <= 0:
        raise TrainingError(
            f"{name}: its inputs are not finite or all zero on this text; give other text, or check the model"
        )
    ridge = damping * float(diagonal.mean())
    hessian = sums.pruned + ridge * torch.eye(len(diagonal))
    # The ridge pulls towards W, not towards zero: an input that never occurs leaves its weights as they are.
    wanted = weight @ (sums.cross + ridge * torch.eye(len(diagonal)))
    target = torch.linalg.solve(hessian, wanted, left=False)
    mask = _choose(target, hessian, density, block)
    solved = _solve(wanted, hessian, mask)
    return Pruned(solved, mask, _error(weight, solved, sums))


def _choose(target: Tensor, hessian: Tensor, density: float, block: tuple[int, int]) -> Tensor:
    """The mask, by ADMM in coordinates in which the diagonal of H is 1."""
    scale = hessian.diagonal().sqrt()
    w = target * scale
    h = hessian / scale / scale[:, None]
    inverse = torch.linalg.inv(h + torch.eye(len(scale)))
    wh = w @ h
    u = torch.zeros_like(w)
    mask = torch.ones_like(w, dtype=torch.bool)
    for step in range(1, _STEPS + 1):
        progress = min(1.0, 2 * step / _STEPS)
        kept = density + (1 - density) * (1 - progress) ** 3
        mask = top_masks({"": (w + u).square()}, kept, block)[""]
        z = (w + u) * mask
        u = u + w - z
        w = (wh + z - u) @ inverse
    return mask


def _solve(wanted: Tensor, hessian: Tensor, mask: Tensor) -> Tensor:
    """Rows v with zeros outside of the mask and (v H)_S = wanted_S on their support S."""
    solved = torch.zeros_like(wanted)
    counts = mask.sum(1)
    order = counts.argsort()
    start = 0
    while start < len(order):
        # Rows in ascending order of support, so that little is padded.
        end = start + 1
        while end < len(order) and (end + 1 - start) * int(counts[order[end]]) ** 2 <= _CHUNK:
            end += 1
        rows = order[start:end]
        solved[rows] = _solve_rows(wanted[rows], hessian, mask[rows])
        start = end
    return solved


def _solve_rows(wanted: Tensor, hessian: Tensor, mask: Tensor) -> Tensor:
    """`_solve` for rows that fit in memory together, padded to the largest support with rows of the identity."""
    size = int(mask.sum(1).max())
    if not size:
        return torch.zeros_like(wanted)
    support = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :size]
    real = mask.gather(1, support)
    system = hessian[support[:, :, None], support[:, None, :]]
    system *= real[:, :, None] & real[:, None, :]
    system.diagonal(dim1=1, dim2=2).add_((~real).float())
    right = wanted.gather(1, support) * real
    factor = torch.linalg.cholesky(system)
    values = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
    return torch.zeros_like(wanted).scatter_(1, support, values * real)


def _error(weight: Tensor, solved: Tensor, sums: Moments) -> float:
    whole = float(((weight @ sums.dense) * weight).sum())
    cross = float(((weight @ sums.cross) * solved).sum())
    own = float(((solved @ sums.pruned) * solved).sum())
    return max(0.0, whole - 2 * cross + own) / max(whole, 1e-30)
