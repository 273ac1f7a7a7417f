"""Libraries whose products are compared, a file each.

A module of this folder defines ``KERNEL``, an instance of `aerogel.bench.kernel.Kernel`.
"""

from aerogel.bench.kernel import Kernel
from aerogel.registry import Registry

__all__ = ["KERNELS"]

KERNELS: Registry[Kernel] = Registry("product", "aerogel.bench.kernels", "KERNEL")
