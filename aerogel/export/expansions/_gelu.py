"""The two GELUs in standard operators, in the order that ONNX Runtime fuses again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["gelu", "gelu_tanh"]


def gelu(build: Builder, x: ir.Value | None) -> ir.Value:
    """``x (1 + erf(x / sqrt 2)) / 2``."""
    divided = build.op("Div", x, build.constant(math.sqrt(2), np.float32))
    shifted = build.op("Add", build.op("Erf", divided), build.constant(1, np.float32))
    return build.op("Mul", build.op("Mul", x, shifted), build.constant(0.5, np.float32))


def gelu_tanh(build: Builder, x: ir.Value | None) -> ir.Value:
    """``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``."""
    cube = build.op("Pow", x, build.constant(3, np.float32))
    inner = build.op("Add", x, build.op("Mul", cube, build.constant(0.044715, np.float32)))
    scaled = build.op("Mul", inner, build.constant(math.sqrt(2 / math.pi), np.float32))
    shifted = build.op("Add", build.op("Tanh", scaled), build.constant(1, np.float32))
    return build.op("Mul", build.op("Mul", x, build.constant(0.5, np.float32)), shifted)
