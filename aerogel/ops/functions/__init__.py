"""ONNX functions that multiply by packed matrices, found by file name.

csr_linear.py is for format "csr" with float32 values, csr_linear_int8.py for the same format with value type "int8".
Each module of this folder defines ``FUNCTION``, an instance of `aerogel.ops.linear_function.LinearFunction`.
Files that begin with an underscore contain code that several bodies share.
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
    """Names of the storage formats that have a function for value type `weights`.

    Raises:
        UsageError: the value type is unknown.
    """
    ending = _LINEAR + VALUE_TYPES.get(weights).suffix
    return [name.removesuffix(ending) for name in FUNCTIONS.names() if name.endswith(ending)]


def op_for(format_name: str, weights: str = "fp32") -> LinearFunction:
    """The function for storage format `format_name` and value type `weights`.

    Raises:
        UsageError: the format or the value type is unknown.
        ExportError: no function combines the two.
    """
    FORMATS.get(format_name)
    known = supported_formats(weights)
    if format_name not in known:
        raise ExportError(
            f"format {format_name!r} with {weights} values cannot be exported to ONNX; use one of: {', '.join(known)}"
        )
    return FUNCTIONS.get(format_name + _LINEAR + VALUE_TYPES.get(weights).suffix)
