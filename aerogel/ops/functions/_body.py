"""Parts of function bodies in ONNX's text syntax: rebuild the transposed dense weight, then multiply by it."""

from __future__ import annotations

__all__ = [
    "MAX_CSR_ELEMENTS",
    "PRODUCT",
    "PRODUCT_INT8",
    "WIDENED",
    "bitmask_transposed",
    "bsr_transposed",
    "csr_transposed",
]

MAX_CSR_ELEMENTS = 2**31 - 1
"""Maximum rows times columns that `csr_transposed` and `bitmask_transposed` can index."""

WIDENED = """
  values = Cast <to = 1> (data)
"""
"""`values`: data converted to float32."""

PRODUCT = """
  product = MatMul (x, transposed)
  y = Add (product, bias)
"""
"""y = x W^T + b, where W^T is `transposed`."""

# x is multiplied by the quotient 127/m, in this order and in float32. The kernels do the same, so that both round equal
# numbers to equal integers.
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
"""The product with 8-bit activations, where `transposed` is the integer weight as float32.

    m[t] = max(max_k |x[t,k]|, 1e-20);    q[t,k] = round_half_even(x[t,k] (127 / m[t]))
    y[t,n] = (sum_k W8[n,k] q[t,k]) (m[t] / 127) scale[n] + bias[n]

The float32 sum is exact if sum_k |W8[n,k] q[t,k]| <= 2^24, so always for rows with at most 1040 entries
(127 * 127 * 1040 < 2^24). Beyond that, float32 may round it by a relative 2^-24.
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

_BITMASK = """
  out = Shape <start = 0, end = 1> (bitmask)
  bytes = Unsqueeze (bitmask, minus_one)
  left = Constant <value = uint8[8] {7, 6, 5, 4, 3, 2, 1, 0}> ()
  right = Constant <value = uint8[1] {7}> ()
  raised = BitShift <direction = "LEFT"> (bytes, left)
  bits = BitShift <direction = "RIGHT"> (raised, right)
  ordered = Transpose <perm = [1, 2, 0]> (bits)
  eight_out = Concat <axis = 0> (minus_one, out)
  padded = Reshape (ordered, eight_out)
  in_scalar = Constant <value_int: int = @in_features> ()
  in = Reshape (in_scalar, one)
  kept = Slice (padded, begin, in, begin)

  kept_i32 = Cast <to = 6> (kept)
  inside = CumSum (kept_i32, zero)
  end = Constant <value_ints = [9223372036854775807]> ()
  lengths = Slice (inside, minus_one, end, begin)
  row_lengths = Squeeze (lengths, begin)
  starts = CumSum <exclusive = 1> (row_lengths, zero)
  number = Add (inside, starts)
  index = Mul (number, kept_i32)
  nothing = Constant <value = float[1] {0}> ()
  choices = Concat <axis = 0> (nothing, VALUES)
  transposed = Gather (choices, index)
"""


def bitmask_transposed(values: str = "data") -> str:
    """Nodes that compute `transposed`, float32 ``[in, out]``, from data and bitmask.

    Bit k of a byte is ``(byte << (7 - k)) >> 7`` in 8-bit arithmetic. The bits are transposed while they take a byte
    each. Then entry (k, n) of the transposed weight, if it is kept, is value number

        number[k, n] = starts[n] + sum_{j <= k} kept[j, n],    starts[n] = sum_{m < n} sum_j kept[j, m]

    counted from 1, because the values are stored row by row; a pruned one is number 0, a zero put before the values.

    Args:
        values: name of the value with the entries as float32, in the order of data.
    """
    return _CONSTANTS + _BITMASK.replace("VALUES", values)


def csr_transposed(values: str = "data") -> str:
    """Nodes that compute `transposed`, float32 ``[in, out]``, from data, indices and indptr.

    CSR does not store the row of each entry, so it is computed first. Row r starts at entry indptr[r]. With a mark at
    the start of each row but the first, entry k is in row

        row[k] = #{r >= 1 : indptr[r] <= k} = CumSum(mark)[k],    mark[k] = #{r >= 1 : indptr[r] = k}

    An empty row starts where the next one does, so a mark may be 2 or more. Rows that start past the last entry are
    marked in one extra element, which is cut off. The transposed weight, in row-major order, has data[k] at
    ``indices[k] * out + row[k]`` and zeros elsewhere.

    Indices are 32 bits wide to save memory: there are several per entry, and the runtime keeps all intermediate results
    until it has folded the last matrix. So in * out is at most `MAX_CSR_ELEMENTS`.

    Args:
        values: name of the value with the entries as float32, in the order of data.
    """
    return _CONSTANTS + _CSR.replace("VALUES", values)


def bsr_transposed(values: str = "data") -> str:
    """Nodes that compute `transposed`, float32 ``[in, out]``, from data ``[blocks, r, c]``, indices and indptr.

    The block row of each block is computed as in `csr_transposed`. The blocks are scattered into a grid
    ``[in / c, out / r, r, c]`` at (indices[k], row[k]). The axes of the grid are then permuted to (in / c, c, out / r,
    r), which in row-major order is the transposed weight.

    Args:
        values: name of the value with the blocks as float32, of the shape of data.
    """
    return _CONSTANTS + _BSR.replace("VALUES", values)
