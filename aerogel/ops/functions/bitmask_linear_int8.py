"""BitmaskLinearInt8_v1: multiply 8-bit activations by a bitmask matrix of 8-bit values, with a scale per row."""

from aerogel.ops.functions import _body
from aerogel.ops.linear_function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="BitmaskLinearInt8_v1",
    arrays=("data", "bitmask", "scale"),
    break_even={1: 0.3},
    body=_body.WIDENED + _body.bitmask_transposed("values") + _body.PRODUCT_INT8,
    max_elements=_body.MAX_CSR_ELEMENTS,
)
