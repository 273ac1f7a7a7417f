"""One way to multiply by a pruned matrix on a GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from aerogel.registry import Registry

__all__ = ["GPU_KERNELS", "GpuKernel", "Layer", "Opened"]


@dataclass(frozen=True)
class Layer:
    """A pruned layer: `weight` ``[out, in]`` on its device, zero where `mask` is False, and `bias` ``[out]``."""

    weight: torch.Tensor
    mask: np.ndarray
    block: tuple[int, int]
    bias: torch.Tensor


@dataclass(frozen=True)
class Opened:
    """A layer that is ready: `call` takes what `prepare` made of x ``[tokens, in]`` and gives ``[tokens, out]``.

    `prepare` is not timed: the rivals get x in the layout that they like best. `bytes` is what the weight takes.
    """

    call: Callable[[torch.Tensor], torch.Tensor]
    bytes: int
    prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x


class GpuKernel(ABC):
    """A module of ``ways/`` defines ``GPU_KERNEL``, an instance."""

    @abstractmethod
    def open(self, layer: Layer) -> Opened:
        """Pack the layer.

        Raises:
            Exception: whatever a library raises that cannot; the way is then left out, with its words.
        """


GPU_KERNELS: Registry[GpuKernel] = Registry("way", "aerogel.bench.gpu.kernels", "GPU_KERNEL")
