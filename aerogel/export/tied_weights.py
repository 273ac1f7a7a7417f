"""Parameters that a file has under another name: equal tensors are stored once, and sums with zeros not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["find_tied_weights"]

# What a name in the file has after the parameter's own.
_ENDINGS = ("", ".data", ".transposed")


def find_tied_weights(
    model: ir.Model, parameters: Iterable[tuple[str, np.ndarray]]
) -> Mapping[str, str | list[int]]:
    """For each parameter that no initializer is named for: the name of the equal one, or the shape of zeros.

    What is in the file in no form is left out: the model does not use it.
    """
    initializers = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    equal: dict[tuple[object, str], list[str]] = {}
    for name, tensor in initializers.items():
        equal.setdefault((tuple(tensor.shape.numpy()), str(tensor.dtype)), []).append(name)
    found: dict[str, str | list[int]] = {}
    for name, array in parameters:
        if any(name + ending in initializers for ending in _ENDINGS):
            continue
        alike = next(
            (
                other
                for other in equal.get((array.shape, "FLOAT"), [])
                if np.array_equal(initializers[other].numpy(), array)
            ),
            None,
        )
        if alike is not None:
            found[name] = alike
        elif not array.any():
            found[name] = list(array.shape)
    return found
