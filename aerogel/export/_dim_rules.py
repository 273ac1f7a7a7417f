"""How each operator's output dimensions follow from its inputs; a rule gives None, or raises, where they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["SHAPE_RULES", "VECTOR_RULES", "Dim", "Known"]

Dim = int | str | None

_INTEGERS = (6, 7)  # int32 and int64: a quotient of others is not rounded


@dataclass(frozen=True)
class Known:
    """A node, and what is known of its inputs."""

    node: ir.Node
    of: Callable[[ir.Value | None], list[Dim] | None]
    contents: Callable[[ir.Value | None], list[Dim] | None]

    def dims(self, index: int) -> list[Dim]:
        """Dimensions of an input; TypeError if unknown."""
        return list(self.of(self.node.inputs[index]) or _unknown(self.of(self.node.inputs[index])))

    def vector(self, index: int) -> list[Dim]:
        """Elements of an input; TypeError if unknown."""
        found = self.contents(self.node.inputs[index])
        return list(_unknown(found) if found is None else found)

    def numbers(self, index: int, attribute: str) -> list[int]:
        """Constants from an input, or from an attribute in older operator sets."""
        if len(self.node.inputs) > index and self.node.inputs[index] is not None:
            return [int(element) for element in self.vector(index)]  # type: ignore[arg-type]
        return list(self.node.attributes[attribute].as_ints())

    def option(self, name: str, default: int) -> int:
        """An attribute that is a number."""
        return int(self.node.attributes.get_int(name, default))


Rule = Callable[[Known], Sequence[Dim] | None]


def _unknown(found: list[Dim] | None) -> list[Dim]:
    if found is None:
        raise TypeError("unknown")
    return found


def _wider(one: Dim, two: Dim) -> Dim:
    """The dimension that two broadcast to."""
    if one == two or two == 1:
        return one
    if one == 1:
        return two
    numbers = [dim for dim in (one, two) if isinstance(dim, int)]
    return numbers[0] if numbers else None


def _broadcast(known: Known) -> list[Dim]:
    shapes = [known.dims(index) for index in range(len(known.node.inputs))]
    return reduce(_both, shapes)


def _both(one: list[Dim], two: list[Dim]) -> list[Dim]:
    pairs = zip_longest(reversed(one), reversed(two), fillvalue=1)
    return [_wider(a, b) for a, b in pairs][::-1]


def _same(known: Known) -> list[Dim]:
    return known.dims(0)


def _matmul(known: Known) -> list[Dim] | None:
    one, two = known.dims(0), known.dims(1)
    if len(one) < 2 or len(two) < 2:
        return None
    return [*_both(one[:-2], two[:-2]), one[-2], two[-1]]


def _gemm(known: Known) -> list[Dim]:
    one, two = known.dims(0), known.dims(1)
    return [one[1 if known.option("transA", 0) else 0], two[0 if known.option("transB", 0) else 1]]


def _gather(known: Known) -> list[Dim]:
    data, positions = known.dims(0), known.dims(1)
    axis = known.option("axis", 0) % len(data)
    return [*data[:axis], *positions, *data[axis + 1 :]]


def _transpose(known: Known) -> list[Dim]:
    dims = known.dims(0)
    return [dims[axis] for axis in known.node.attributes.get_ints("perm", range(len(dims))[::-1])]


def _unsqueeze(known: Known) -> list[Dim]:
    dims, axes = known.dims(0), known.numbers(1, "axes")
    rank = len(dims) + len(axes)
    at, rest = {axis % rank for axis in axes}, iter(dims)
    return [1 if axis in at else next(rest) for axis in range(rank)]


def _squeeze(known: Known) -> list[Dim]:
    dims = known.dims(0)
    at = {axis % len(dims) for axis in known.numbers(1, "axes")}
    return [dim for axis, dim in enumerate(dims) if axis not in at]


def _reshape(known: Known) -> list[Dim]:
    before, target = known.dims(0), known.vector(1)
    if not known.option("allowzero", 0):
        target = [before[axis] if size == 0 else size for axis, size in enumerate(target)]
    if -1 not in target:
        return target
    # The one that is left after all others are divided out of the input.
    others = [size for size in target if size != -1]
    rest = list(before)
    for size in [size for size in others if isinstance(size, str)]:
        if size not in rest:
            return [None if size == -1 else size for size in target]
        rest.remove(size)
    names = [size for size in rest if not isinstance(size, int)]
    count, divisor = (_product(sizes) for sizes in (rest, others))
    missing: Dim = None
    if None not in others and divisor and not names and count % divisor == 0:
        missing = count // divisor
    elif None not in others and len(names) == 1 and count == divisor:
        missing = names[0]
    return [missing if size == -1 else size for size in target]


def _product(sizes: Sequence[Dim]) -> int:
    return reduce(lambda a, b: a * b, [size for size in sizes if isinstance(size, int)], 1)


def _expand(known: Known) -> list[Dim]:
    return _both(known.dims(0), known.vector(1))


def _concat(known: Known) -> list[Dim]:
    shapes = [known.dims(index) for index in range(len(known.node.inputs))]
    axis = known.option("axis", 0) % len(shapes[0])
    sizes = [shape[axis] for shape in shapes]
    numbers = [size for size in sizes if isinstance(size, int)]
    total = sum(numbers) if len(numbers) == len(sizes) else None
    return [total if at == axis else size for at, size in enumerate(shapes[0])]


def _reduce(known: Known) -> list[Dim]:
    dims, keep = known.dims(0), known.option("keepdims", 1)
    at = {axis % len(dims) for axis in known.numbers(1, "axes")}
    return [1 if axis in at else dim for axis, dim in enumerate(dims) if keep or axis not in at]


def _linear(known: Known) -> list[Dim]:
    return [*known.dims(0)[:-1], *known.dims(len(known.node.inputs) - 1)]


def _shape_of(known: Known) -> list[Dim]:
    return [len(_dims_of(known))]


def _dims_of(known: Known) -> list[Dim]:
    dims = known.dims(0)
    start, end = known.option("start", 0), known.option("end", len(dims))
    return dims[start:end]


def _range(known: Known) -> list[Dim]:
    (start,), (end,), (step,) = (known.vector(index) for index in range(3))
    return [end if (start, step) == (0, 1) else None]


def _slice(known: Known) -> list[Dim]:
    dims = known.dims(0)
    starts, ends = known.vector(1), known.vector(2)
    axes = known.numbers(3, "axes") if len(known.node.inputs) > 3 else range(len(starts))
    steps = known.vector(4) if len(known.node.inputs) > 4 else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = dims[axis]
        if (
            isinstance(size, int)
            and isinstance(start, int)
            and isinstance(end, int)
            and isinstance(step, int)
        ):
            dims[axis] = len(range(*slice(start, end, step).indices(size)))
        elif (start, step) == (0, 1) and isinstance(end, str) and isinstance(size, int) and size > 1:
            # The rows of a table of positions: as many as asked for, or the sum with the words' fails.
            dims[axis] = end
        elif (start, step) == (0, 1) and isinstance(end, int) and end >= 2**31 - 1:
            pass  # all of it
        else:
            dims[axis] = None
    return dims


_ELEMENTWISE = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Or", "Pow",
    "Sub", "Where", "Xor",
)  # fmt: skip
_UNARY = (
    "Abs", "Cast", "Clip", "CumSum", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Erf", "Exp", "Gelu",
    "Identity", "IsNaN", "LayerNormalization", "LeakyRelu", "Neg", "Not", "QuantizeLinear", "Reciprocal", "Relu",
    "Round", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Tanh", "Trilu",
)  # fmt: skip

SHAPE_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcast),
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    "Concat": _concat,
    "ConstantOfShape": lambda known: known.vector(0),
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape_of,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "aerogel.*": _linear,
}
"""Dimensions of an operator's first output, by operator type."""


def _elements(known: Known) -> list[Dim]:
    return known.vector(0)


def _picked(known: Known) -> list[Dim]:
    vector = known.vector(0)
    return [vector[int(index)] for index in known.vector(1)]  # type: ignore[arg-type]


def _sliced(known: Known) -> list[Dim] | None:
    vector = known.vector(0)
    bounds = [known.vector(index)[0] for index in range(1, len(known.node.inputs))]
    numbers = [bound for bound in bounds if isinstance(bound, int)]
    if len(numbers) != len(bounds):
        return None
    return vector[slice(numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else 1)]


def _joined(known: Known) -> list[Dim]:
    return [size for index in range(len(known.node.inputs)) for size in known.vector(index)]


def _repeated(known: Known) -> list[Dim] | None:
    (count,) = known.vector(0)
    tensor = known.node.attributes.get("value")
    if not isinstance(count, int) or count > 8 or tensor is None:
        return None
    array = tensor.as_tensor().numpy()
    return [int(array.ravel()[0])] * count if array.dtype.kind in "iub" else None


def _pairs(known: Known) -> list[tuple[Dim, Dim]]:
    one, two = known.vector(0), known.vector(1)
    size = max(len(one), len(two))
    one, two = (side * size if len(side) == 1 else side for side in (one, two))
    return list(zip(one, two, strict=True))


def _calculated(function: Callable[[int, int], int]) -> Rule:
    def rule(known: Known) -> list[Dim]:
        return [
            function(a, b) if isinstance(a, int) and isinstance(b, int) else None for a, b in _pairs(known)
        ]

    return rule


def _multiplied(known: Known) -> list[Dim]:
    return [
        a * b if isinstance(a, int) and isinstance(b, int) else a if b == 1 else b if a == 1 else None
        for a, b in _pairs(known)
    ]


def _equal(known: Known) -> list[Dim]:
    found: list[Dim] = []
    for a, b in _pairs(known):
        if isinstance(a, int) and isinstance(b, int):
            found.append(int(a == b))
        elif any(isinstance(side, int) and side < 0 for side in (a, b)) and None not in (a, b):
            found.append(0)  # a dimension is not negative
        else:
            found.append(None)
    return found


def _where(known: Known) -> list[Dim]:
    chosen, one, two = (known.vector(index) for index in range(3))
    return [
        None if which is None else a if which else b for which, a, b in zip(chosen, one, two, strict=True)
    ]


VECTOR_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Identity", "Reshape", "Squeeze", "Unsqueeze"), _elements),
    "Cast": lambda known: known.vector(0) if known.option("to", 0) in _INTEGERS else None,
    "Add": _calculated(lambda a, b: a + b),
    "Concat": _joined,
    "ConstantOfShape": _repeated,
    "Div": _calculated(lambda a, b: a // b),
    "Equal": _equal,
    "Gather": _picked,
    "Mul": _multiplied,
    "Shape": _dims_of,
    "Slice": _sliced,
    "Sub": _calculated(lambda a, b: a - b),
    "Where": _where,
}
"""Elements of an operator's output, if that is a vector or scalar of dimensions, by operator type."""
