"""CsrLinear_v1: multiply by a CSR matrix of float32 values."""

from aerogel.ops.functions import _body
from aerogel.ops.linear_function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="CsrLinear_v1",
    arrays=("data", "indices", "indptr"),
    break_even={1: 0.5},
    body=_body.csr_transposed() + _body.PRODUCT,
    max_elements=_body.MAX_CSR_ELEMENTS,
)
