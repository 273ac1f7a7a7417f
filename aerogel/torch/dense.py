"""Convert packed matrices to dense ones, in operations that torch can trace and that run on any device."""

from __future__ import annotations

import torch

__all__ = ["to_dense"]


def to_dense(
    data: torch.Tensor, indices: torch.Tensor, indptr: torch.Tensor, in_features: int
) -> torch.Tensor:
    """Return the dense ``[out, in]`` matrix of CSR or BSR arrays, in the dtype of `data`; see `aerogel.sparse.formats`.

    The arrays must be valid; they are not checked.
    """
    blocks = data if data.ndim == 3 else data[:, None, None]
    entries, r, c = blocks.shape
    rows = indptr.shape[0] - 1
    row = torch.repeat_interleave(
        torch.arange(rows, device=indptr.device), indptr.diff(), output_size=entries
    )
    grid = data.new_zeros(rows, in_features // c, r, c).index_put((row, indices.long()), blocks)
    return grid.transpose(1, 2).reshape(rows * r, in_features)
