"""The interface of a GPU kernel, and the table of all kernels."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["GpuKernel", "Layer", "Opened", "gpu_kernels"]

_PACKAGE = "aerogel.bench.gpu.kernels"


@dataclass(frozen=True)
class Layer:
    """A pruned linear layer.

    Attributes:
        weight: ``[out, in]`` on its device, zero where `mask` is False.
        mask: boolean, of the same shape.
        block: (rows, cols) kept or pruned together.
        bias: ``[out]``.
    """

    weight: torch.Tensor
    mask: np.ndarray
    block: tuple[int, int]
    bias: torch.Tensor


@dataclass(frozen=True)
class Opened:
    """A packed layer.

    Attributes:
        call: computes ``[tokens, out]`` from what `prepare` returned.
        bytes: size of the packed weight.
        prepare: converts x ``[tokens, in]`` to the kernel's preferred layout; not timed.
    """

    call: Callable[[torch.Tensor], torch.Tensor]
    bytes: int
    prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x


class GpuKernel(ABC):
    """One implementation of a linear layer with a pruned weight."""

    @abstractmethod
    def open(self, layer: Layer) -> Opened:
        """Pack the layer.

        Raises:
            Exception: anything that the library raises. The kernel is then reported with the error's text.
        """


@functools.cache
def gpu_kernels() -> dict[str, GpuKernel]:
    """Return all kernels by name: the tables ``GPU_KERNELS`` of the modules in ``kernels/``."""
    folder = importlib.import_module(_PACKAGE)
    modules = [
        importlib.import_module(f"{_PACKAGE}.{item.name}") for item in pkgutil.iter_modules(folder.__path__)
    ]
    return {name: kernel for module in modules for name, kernel in module.GPU_KERNELS.items()}
