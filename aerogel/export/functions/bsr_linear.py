"""BsrLinear_v1: multiply by a BSR matrix with blocks of r x c.

The block row of every block is found as in csr_linear.py. The blocks are then placed in a grid
``[in / c, out / r, r, c]`` at (indices[k], row[k]), and the grid's axes are put in the order (in / c, c, out / r, r),
which read in row-major order is the transposed weight.
"""

from aerogel.export.function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="BsrLinear_v1",
    arrays=("data", "indices", "indptr"),
    break_even={1: 0.5, 2: 0.55, 4: 0.9},
    body="""
  zero = Constant <value_int = 0> ()
  begin = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  minus_one = Constant <value_ints = [-1]> ()

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
  filled = ScatterND (grid, position, data)
  ordered = Transpose <perm = [0, 3, 1, 2]> (filled)
  out = Mul (block_rows, r)
  shape = Concat <axis = 0> (in, out)
  transposed = Reshape (ordered, shape)

  product = MatMul (x, transposed)
  y = Add (product, bias)
""",
)
