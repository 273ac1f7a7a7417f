"""BsrLinear_v1: multiply by a BSR matrix of float32 values, in blocks of r x c."""

from aerogel.ops.functions import _body
from aerogel.ops.linear_function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="BsrLinear_v1",
    arrays=("data", "indices", "indptr"),
    break_even={1: 0.5, 2: 0.55, 4: 0.9},
    body=_body.bsr_transposed() + _body.PRODUCT,
)
