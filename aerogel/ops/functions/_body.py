"""Pieces of function bodies in ONNX's text syntax: rebuilding a transposed dense weight, and what is done with it."""

from __future__ import annotations

__all__ = ["MOST_CSR_PLACES", "PRODUCT", "PRODUCT_INT8", "WIDENED", "bsr_transposed", "csr_transposed"]

MOST_CSR_PLACES = 2**31 - 1
"""Rows times columns that the positions in `csr_transposed` can count."""

WIDENED = """
  values = Cast <to = 1> (data)
"""
"""values: data of another type, as float32."""

PRODUCT = """
  product = MatMul (x, transposed)
  y = Add (product, bias)
"""
"""y = x W^T + b, W^T being `transposed`."""

# 127/m is divided out per token and then multiplied with, in this order and in float32: the kernels do the same, so
# that both round the same numbers to the same integers.
PRODUCT_INT8 = """
  last = Constant <value_ints = [-1]> ()
  most = Constant <value_float = 127.0> ()
  least = Constant <value_float = 1e-20> ()
  step = Constant <value_float = 0.007874015718698502> ()
  size_of = Abs (x)
  largest = ReduceMax (size_of, last)
  m = Max (largest, least)
  inverse = Div (most, m)
  steps = Mul (x, inverse)
  q = Round (steps)
  product = MatMul (q, transposed)
  token_scale = Mul (m, step)
  scaled = Mul (product, token_scale)
  weighted = Mul (scaled, scale)
  y = Add (weighted, bias)
"""
"""The product with activations in 8 bits, `transposed` being the integers of the weight as float32.

    m[t] = max(max_k |x[t,k]|, 1e-20);    q[t,k] = round_half_even(x[t,k] (127 / m[t]))
    y[t,n] = (sum_k W8[n,k] q[t,k]) (m[t] / 127) scale[n] + bias[n]

The sum is the integers' own wherever sum_k |W8[n,k] q[t,k]| <= 2^24, so always for rows with at most 1040 entries
(127 * 127 * 1040 < 2^24); beyond that float32 may round, by 2^-24 of the sum.
"""

_CONSTANTS = """
  zero = Constant <value_int = 0> ()
  begin = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  minus_one = Constant <value_ints = [-1]> ()
"""

_CSR = """
  entries = Shape (data)
  places = Add (entries, one)
  unmarked = ConstantOfShape <value = int32[1] {0}> (places)
  starts = Slice (indptr, one, minus_one)
  count = Shape (starts)
  marks = ConstantOfShape <value = int32[1] {1}> (count)
  marked = ScatterElements <axis = 0, reduction = "add"> (unmarked, starts, marks)
  summed = CumSum (marked, zero)
  row = Slice (summed, begin, minus_one)

  pointers = Shape (indptr)
  out = Sub (pointers, one)
  out_i32 = Cast <to = 6> (out)
  column = Cast <to = 6> (indices)
  column_start = Mul (column, out_i32)
  position = Add (column_start, row)

  in_scalar = Constant <value_int: int = @in_features> ()
  in = Reshape (in_scalar, one)
  size = Mul (in, out)
  empty = ConstantOfShape <value = float[1] {0}> (size)
  filled = ScatterElements <axis = 0> (empty, position, VALUES)
  shape = Concat <axis = 0> (in, out)
  transposed = Reshape (filled, shape)
"""

_BSR = """
  blocks = Shape <start = 0, end = 1> (data)
  places = Add (blocks, one)
  unmarked = ConstantOfShape <value = int64[1] {0}> (places)
  starts = Slice (indptr, one, minus_one)
  count = Shape (starts)
  marks = ConstantOfShape <value = int64[1] {1}> (count)
  marked = ScatterElements <axis = 0, reduction = "add"> (unmarked, starts, marks)
  summed = CumSum (marked, zero)
  row = Slice (summed, begin, minus_one)

  pointers = Shape (indptr)
  block_rows = Sub (pointers, one)
  r = Shape <start = 1, end = 2> (data)
  c = Shape <start = 2, end = 3> (data)
  in_scalar = Constant <value_int: int = @in_features> ()
  in = Reshape (in_scalar, one)
  block_cols = Div (in, c)
  grid_shape = Concat <axis = 0> (block_cols, block_rows, r, c)
  grid = ConstantOfShape <value = float[1] {0}> (grid_shape)

  column = Cast <to = 7> (indices)
  column_of = Unsqueeze (column, one)
  row_of = Unsqueeze (row, one)
  position = Concat <axis = 1> (column_of, row_of)
  filled = ScatterND (grid, position, VALUES)
  ordered = Transpose <perm = [0, 3, 1, 2]> (filled)
  out = Mul (block_rows, r)
  shape = Concat <axis = 0> (in, out)
  transposed = Reshape (ordered, shape)
"""


def csr_transposed(values: str = "data") -> str:
    """Nodes that make `transposed`, float32 ``[in, out]``, of data, indices and indptr.

    The row of every entry is needed, which CSR does not store. Row r starts at entry indptr[r]; adding up a one at
    the start of each row but the first, entry k stands in row

        row[k] = #{r >= 1 : indptr[r] <= k} = CumSum(mark)[k],    mark[k] = #{r >= 1 : indptr[r] = k}

    (empty rows start where the next one does, so a mark may be 2 or more; rows that start past the last entry fall
    into one extra place that is cut off). The transposed weight, in row-major order, then has data[k] at
    ``indices[k] * out + row[k]`` and zeros elsewhere. Positions are counted in 32 bits: all intermediate results live
    until the runtime has folded the last matrix, and these are several per entry. So in * out is at most
    `MOST_CSR_PLACES`.

    Args:
        values: name of the value that has the entries as float32, in the order of data.
    """
    return _CONSTANTS + _CSR.replace("VALUES", values)


def bsr_transposed(values: str = "data") -> str:
    """Nodes that make `transposed`, float32 ``[in, out]``, of data ``[blocks, r, c]``, indices and indptr.

    The block row of every block is found as in `csr_transposed`. The blocks are then placed in a grid
    ``[in / c, out / r, r, c]`` at (indices[k], row[k]), and the grid's axes are put in the order
    (in / c, c, out / r, r), which read in row-major order is the transposed weight.

    Args:
        values: name of the value that has the blocks as float32, shaped as data.
    """
    return _CONSTANTS + _BSR.replace("VALUES", values)
