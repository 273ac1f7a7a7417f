"""Libraries whose products are compared, a file each.

A module of this folder defines ``PRODUCT``, an instance of `aerogel.bench.product.Product`.
"""

from aerogel.bench.product import Product
from aerogel.registry import Registry

__all__ = ["PRODUCTS"]

PRODUCTS: Registry[Product] = Registry("product", "aerogel.bench.products", "PRODUCT")
