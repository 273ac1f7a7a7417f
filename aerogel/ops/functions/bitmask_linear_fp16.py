"""BitmaskLinearFp16_v1: multiply by a bitmask matrix of half-precision values."""

from aerogel.ops.functions import _body
from aerogel.ops.linear_function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="BitmaskLinearFp16_v1",
    arrays=("data", "bitmask"),
    break_even={1: 0.5},
    body=_body.WIDENED + _body.bitmask_transposed("values") + _body.PRODUCT,
    max_elements=_body.MAX_CSR_ELEMENTS,
)
