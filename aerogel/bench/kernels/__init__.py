"""Libraries whose products are compared, a file each.

A module of this folder defines ``PRODUCT``, an instance of `aerogel.bench.kernel.Product`.
"""

from aerogel.bench.kernel import Product
from aerogel.registry import Registry

__all__ = ["PRODUCTS"]

PRODUCTS: Registry[Product] = Registry("product", "aerogel.bench.kernels", "PRODUCT")
