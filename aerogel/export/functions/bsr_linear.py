"""BsrLinear_v1: multiply by a BSR matrix with blocks of r x c."""

from aerogel.export.function import LinearFunction
from aerogel.export.functions import _body

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="BsrLinear_v1",
    arrays=("data", "indices", "indptr"),
    break_even={1: 0.5, 2: 0.55, 4: 0.9},
    body=_body.bsr_transposed() + _body.PRODUCT,
)
