"""SciPy's CSR times feature-major activations. Its BSR takes several times as long."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from aerogel.bench.kernel import Kernel, Layer
from aerogel.errors import require

__all__ = ["KERNEL"]


class _SciPy(Kernel):
    def refuse(self) -> str | None:
        found = importlib.util.find_spec("scipy")
        return None if found else "SciPy is not installed; run: pip install scipy"

    def open(self, layer: Layer) -> Callable[[], np.ndarray]:
        sparse = require("scipy.sparse", "train")
        weight = sparse.csr_matrix(layer.weight)
        x = np.ascontiguousarray(layer.x.T)
        return lambda: np.asarray((weight @ x).T)


KERNEL = _SciPy()
