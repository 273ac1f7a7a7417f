"""PyTorch's CSR tensors times feature-major activations."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

from aerogel.bench.kernel import Kernel, Layer
from aerogel.errors import require

__all__ = ["KERNEL"]


class _Torch(Kernel):
    def refuse(self) -> str | None:
        found = importlib.util.find_spec("torch")
        return None if found else "PyTorch is not installed; run: pip install torch"

    def open(self, layer: Layer) -> Callable[[], np.ndarray]:
        torch = require("torch", "train")
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that CSR tensors are in beta
            weight = torch.from_numpy(layer.weight).to_sparse_csr()
        x = torch.from_numpy(np.ascontiguousarray(layer.x.T))
        return lambda: np.asarray(torch.mm(weight, x).numpy().T)


KERNEL = _Torch()
