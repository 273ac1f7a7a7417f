"""Aerogel's kernel: CSR, or BSR for blocks, times token-major activations, with a bias."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aerogel.bench.kernel import Kernel, Layer
from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu.library import library_path

__all__ = ["KERNEL"]


class _Aerogel(Kernel):
    def refuse(self) -> str | None:
        try:
            library_path()
        except RuntimeLoadError as error:
            return str(error)
        return None

    def open(self, layer: Layer) -> Callable[[], np.ndarray]:
        from aerogel.kernels.cpu.native import SparseLinear
        from aerogel.sparse.formats import FORMATS

        format = FORMATS.get("csr" if layer.block == (1, 1) else "bsr")
        arrays = format.encode(layer.weight, layer.mask, layer.block)
        sparse = SparseLinear(arrays, None, layer.weight.shape[1])
        y = np.empty((len(layer.x), len(layer.weight)), np.float32)
        return lambda: sparse(layer.x, out=y)


KERNEL = _Aerogel()
