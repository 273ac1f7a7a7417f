"""How many weights each matrix keeps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from aerogel.sparse.masks import check_block, top_masks

__all__ = ["densities"]


def densities(
    layers: Mapping[str, nn.Linear],
    density: float,
    block: tuple[int, int],
    input_moments: Mapping[str, Tensor] | None,
) -> dict[str, float]:
    """Density of each matrix.

    Args:
        layers: linear layers by the name of their weight.
        density: fraction of all their weights to keep.
        block: (rows, cols) kept or pruned together.
        input_moments: sum of x x^T by name. If given, the blocks of all matrices compete by the share of the matrix's
            output that they carry, w_ij^2 H_jj / tr(W H W^T) (the score of Sun et al. 2023, "A simple and effective
            pruning approach for large language models", relative to the output). If None, every matrix keeps `density`.

    Raises:
        UsageError: `block` does not divide a matrix.
    """
    for name, layer in layers.items():
        check_block(tuple(layer.weight.shape), block, name)
    if input_moments is None:
        return dict.fromkeys(layers, density)
    scores = {}
    for name, layer in layers.items():
        weight, moment = layer.weight.detach(), input_moments[name]
        output = ((weight @ moment) * weight).sum().clamp_min(1e-30)
        scores[name] = weight.square() * moment.diagonal() / output * weight.numel()
    masks = top_masks(scores, density, block, "global")
    # No matrix is emptied: the layers behind it would have nothing to be corrected from.
    return {name: max(float(mask.float().mean()), density / 4) for name, mask in masks.items()}
