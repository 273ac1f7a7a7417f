"""Kernels that can be measured. Each module of this folder is one library.

It defines ``KERNEL``, an instance of `aerogel.bench.kernel.Kernel`.
"""

from aerogel.bench.kernel import Kernel
from aerogel.registry import Registry

__all__ = ["KERNELS"]

KERNELS: Registry[Kernel] = Registry("kernel", "aerogel.bench.kernels", "KERNEL")
