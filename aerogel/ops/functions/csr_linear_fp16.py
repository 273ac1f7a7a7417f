"""CsrLinearFp16_v1: multiply by a CSR matrix of half-precision values."""

from aerogel.ops.functions import _body
from aerogel.ops.linear_function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="CsrLinearFp16_v1",
    arrays=("data", "indices", "indptr"),
    break_even={1: 0.5},
    body=_body.WIDENED + _body.csr_transposed("values") + _body.PRODUCT,
    max_elements=_body.MAX_CSR_ELEMENTS,
)
