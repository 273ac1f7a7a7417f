"""CsrLinear_v1: multiply by a CSR matrix.

The body needs the row of every entry, which CSR does not store. Row r starts at entry indptr[r]; adding up a one at
the start of each row but the first, entry k stands in row

    row[k] = #{r >= 1 : indptr[r] <= k} = CumSum(mark)[k],    mark[k] = #{r >= 1 : indptr[r] = k}

(empty rows start where the next one does, so a mark may be 2 or more; rows that start past the last entry fall into
one extra place that is cut off). The transposed weight, in row-major order, then has data[k] at
``indices[k] * out + row[k]`` and zeros elsewhere. Positions are counted in 32 bits: all intermediate results live until
the runtime has folded the last matrix, and these are several per entry. So in * out must stay below 2^31.
"""

from aerogel.export.function import LinearFunction

__all__ = ["FUNCTION"]

FUNCTION = LinearFunction(
    name="CsrLinear_v1",
    arrays=("data", "indices", "indptr"),
    break_even={1: 0.5},
    body="""
  zero = Constant <value_int = 0> ()
  begin = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  minus_one = Constant <value_ints = [-1]> ()

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
  filled = ScatterElements <axis = 0> (empty, position, data)
  shape = Concat <axis = 0> (in, out)
  transposed = Reshape (filled, shape)

  product = MatMul (x, transposed)
  y = Add (product, bias)
""",
)
