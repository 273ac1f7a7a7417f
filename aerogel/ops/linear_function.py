"""What carries a packed matrix through an ONNX file: a model-local function of the domain "aerogel".

A node calls the function with the packed arrays as initializers. Its body, in standard operators, rebuilds the dense
weight; any ONNX Runtime from 1.17 on inlines it and folds it to one dense matrix when a session is created. Where the
native library is registered, its kernel of the same name runs instead and the body is ignored.

A signature never changes once released: the kernel's schema rules wherever the library is registered, so a changed
one gets a new version in its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.errors import ExportError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["DOMAIN", "IR_VERSION", "MOST_COLUMNS", "OPSET", "LinearFunction"]

DOMAIN = "aerogel"
"""Operator domain of the functions; version 1."""

OPSET = 18
"""The operator set that torch.onnx is written for. Newer ones bring nothing that ONNX Runtime 1.17 runs faster."""

IR_VERSION = 8
"""The file format that belongs to opset 18, and the first with model-local functions."""

MOST_COLUMNS = 2**20
"""Columns of a packed matrix that the kernels take: kMostColumns of aerogel/kernels/cpu/src/packed.cc."""


@dataclass(frozen=True)
class LinearFunction:
    """The ONNX function that multiplies by a matrix of one storage format: ``y = x W^T + b``.

    Its inputs are x (float32 ``[..., in]``), the arrays of the format in the format's order, and bias (float32
    ``[out]``); its attribute is the integer in_features, its output y (float32 ``[..., out]``).

    Attributes:
        name: name of the function and of its kernel, with its version.
        arrays: the format's arrays, in the order of the node's inputs.
        break_even: stored entries over all entries at which the dense matrix is as fast, by the height of the
            kernel's panels: of the heights given, the largest that divides the blocks' rows counts. For where there is
            no calibration: the lower of what a Zen 5 and a Zen 4 core have with AVX-512, see docs/calibration.md.
        body: nodes in ONNX's text syntax. Every output shape must be inferable before the values are known, or
            ONNX Runtime will not fold it: no NonZero, Compress or Unique, and no node whose result goes unused.
        most_places: rows times columns that the body and the kernel can both count; the kernel's limit by default.
    """

    name: str
    arrays: tuple[str, ...]
    break_even: Mapping[int, float]
    body: str
    most_places: int = 2**36

    def max_density(self, block: tuple[int, int]) -> float:
        """Break-even density of a matrix stored in blocks of (rows, cols)."""
        return self.break_even[max(height for height in self.break_even if block[0] % height == 0)]

    def check_shape(self, shape: tuple[int, ...], name: str) -> None:
        """Refuse a matrix of more entries, pruned ones included, or more columns than the kernels take.

        Raises:
            ExportError: it has more; calls it `name`.
        """
        if shape[1] > MOST_COLUMNS:
            raise ExportError(
                f"{name} has {shape[1]} columns, and {self.name} takes at most {MOST_COLUMNS}; "
                "export it with --format dense"
            )
        if math.prod(shape) > self.most_places:
            raise ExportError(
                f"{name} is {'x'.join(map(str, shape))}, and {self.name} counts {self.most_places} places; "
                "export it with another --format, such as bsr or dense"
            )

    def proto(self) -> onnx.FunctionProto:
        """The function as it stands in a file."""
        require("onnx", "export")
        import onnx.parser

        inputs = ", ".join(("x", *self.arrays, "bias"))
        return onnx.parser.parse_function(
            f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
            f"{self.name} <in_features> ({inputs}) => (y) {{{self.body}}}"
        )
