"""The ONNX model-local functions, domain "aerogel", that multiply by a packed matrix.

A node calls the function with the packed arrays as initializers. The function's body, in standard operators, rebuilds
the dense weight; any ONNX Runtime from 1.17 on inlines the body and folds it to one dense matrix when it creates a
session. If the native library is registered, its kernel of the same name runs instead and the body is ignored.

The signature of a released function never changes, because the library's schema must match every file ever exported.
A different signature gets a new version in its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.errors import ExportError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["DOMAIN", "IR_VERSION", "MAX_COLUMNS", "OPSET", "LinearFunction"]

DOMAIN = "aerogel"
"""Operator domain of the functions; version 1."""

OPSET = 18
"""The operator set that torch.onnx writes. ONNX Runtime 1.17 runs none of the newer ones faster."""

IR_VERSION = 8
"""The file format of opset 18, and the first with model-local functions."""

MAX_COLUMNS = 2**20
"""Maximum columns of a packed matrix: kMostColumns of aerogel/kernels/cpu/src/packed.cc."""


@dataclass(frozen=True)
class LinearFunction:
    """The ONNX function that computes ``y = x W^T + bias`` for W in one storage format and value type.

    Inputs: x, float32 ``[..., in]``; the arrays of the format, in the format's order; bias, float32 ``[out]``.
    Attribute: in_features, an integer. Output: y, float32 ``[..., out]``.

    Attributes:
        name: name of the function and of its kernel, with its version.
        arrays: names of the format's arrays, in the order of the node's inputs.
        break_even: stored fraction at which the dense matrix is as fast, by panel rows. The largest panel rows that
            divide the rows of a block apply. Used if this machine is not calibrated. Each value is the lower of those
            measured on a Zen 5 and a Zen 4 core with AVX-512, see docs/calibration.md.
        body: nodes in ONNX's text syntax. ONNX Runtime folds them only if every output shape can be inferred before
            the values are known and every result is used: no NonZero, Compress or Unique.
        max_elements: maximum rows times columns that both the body and the kernel can index; the kernel's limit by
            default.
    """

    name: str
    arrays: tuple[str, ...]
    break_even: Mapping[int, float]
    body: str
    max_elements: int = 2**36

    def max_density(self, block: tuple[int, int]) -> float:
        """Break-even of a matrix stored in blocks of (rows, cols)."""
        return self.break_even[max(rows for rows in self.break_even if block[0] % rows == 0)]

    def check_shape(self, shape: tuple[int, ...], name: str) -> None:
        """Check that a matrix is small enough for the body and the kernel.

        Raises:
            ExportError: matrix `name` has more than `MAX_COLUMNS` columns or more than `max_elements` elements.
        """
        if shape[1] > MAX_COLUMNS:
            raise ExportError(
                f"{name} has {shape[1]} columns, more than the {MAX_COLUMNS} that {self.name} supports; "
                "export it with --format dense"
            )
        if math.prod(shape) > self.max_elements:
            raise ExportError(
                f"{name} is {'x'.join(map(str, shape))}, more than the {self.max_elements} elements that {self.name} "
                "supports; export it with another --format, such as bsr or dense"
            )

    def proto(self) -> onnx.FunctionProto:
        """The function as an ONNX message."""
        require("onnx", "export")
        import onnx.parser

        inputs = ", ".join(("x", *self.arrays, "bias"))
        return onnx.parser.parse_function(
            f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
            f"{self.name} <in_features> ({inputs}) => (y) {{{self.body}}}"
        )
