"""BsrLinearInt8_v1: multiply 8-bit activations by a BSR matrix of 8-bit values, with a scale per row."""

from aerogel.ops.functions import _body
from aerogel.ops.linear_function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="BsrLinearInt8_v1",
    arrays=("data", "indices", "indptr", "scale"),
    break_even={1: 0.6, 4: 0.9},
    body=_body.WIDENED + _body.bsr_transposed("values") + _body.PRODUCT_INT8,
)
