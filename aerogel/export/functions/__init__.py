"""ONNX functions that carry packed matrices. Format "csr" is carried by csr_linear.py, and so on by file name.

A module of this folder defines ``FUNCTION``, an instance of `aerogel.export.function.LinearFunction`.
"""

from aerogel.errors import ExportError
from aerogel.export.function import LinearFunction
from aerogel.registry import Registry
from aerogel.sparse.formats import FORMATS

__all__ = ["FUNCTIONS", "carried", "carrier"]

FUNCTIONS: Registry[LinearFunction] = Registry("function", "aerogel.export.functions", "FUNCTION")
_SUFFIX = "-linear"


def carried() -> list[str]:
    """Names of the storage formats that an ONNX file can carry."""
    return [name.removesuffix(_SUFFIX) for name in FUNCTIONS.names() if name.endswith(_SUFFIX)]


def carrier(format_name: str) -> LinearFunction:
    """The function that carries matrices of `format_name`.

    Raises:
        UsageError: no such format.
        ExportError: the format is known but has no function.
    """
    FORMATS.get(format_name)
    if format_name not in carried():
        raise ExportError(f"ONNX cannot carry format {format_name!r}; it carries: {', '.join(carried())}")
    return FUNCTIONS.get(format_name + _SUFFIX)
