"""ONNX functions that carry packed matrices, found by file name.

csr_linear.py carries format "csr" with float32 values, csr_linear_int8.py with those of the weight type "int8", and so
on. A module of this folder defines ``FUNCTION``, an instance of `aerogel.ops.linear_function.LinearFunction`. Files
that begin with an underscore contain what several bodies share.
"""

from aerogel.errors import ExportError
from aerogel.ops.linear_function import LinearFunction
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.registry import Registry
from aerogel.sparse.formats import FORMATS

__all__ = ["FUNCTIONS", "op_for", "supported_formats"]

FUNCTIONS: Registry[LinearFunction] = Registry("function", "aerogel.ops.functions", "FUNCTION")
_LINEAR = "-linear"


def supported_formats(weights: str = "fp32") -> list[str]:
    """Names of the storage formats that an ONNX file can carry with values of type `weights`.

    Raises:
        UsageError: no such weight type.
    """
    ending = _LINEAR + VALUE_TYPES.get(weights).suffix
    return [name.removesuffix(ending) for name in FUNCTIONS.names() if name.endswith(ending)]


def op_for(format_name: str, weights: str = "fp32") -> LinearFunction:
    """The function that carries matrices of `format_name` with values of type `weights`.

    Raises:
        UsageError: no such format or weight type.
        ExportError: both are known but have no function.
    """
    FORMATS.get(format_name)
    known = supported_formats(weights)
    if format_name not in known:
        raise ExportError(
            f"ONNX cannot carry format {format_name!r} in {weights}; it carries: {', '.join(known)}"
        )
    return FUNCTIONS.get(format_name + _LINEAR + VALUE_TYPES.get(weights).suffix)
