// The vector operations that the kernels are written in. CMakeLists.txt sets AEROGEL_SIMD_HEADER to the simd_<header>.h
// of the instruction set (see isa_list.h) and AEROGEL_ISA to its namespace.
//
// Everything compiled per instruction set lives in that namespace and uses nothing of the standard library that has
// external linkage: the linker keeps one copy of such a template for the whole library, and a copy compiled with
// AVX-512 flags would fault on a CPU without AVX-512.
//
// A header defines, for vectors of kWidth floats:
//
//   kWidth, Vec            number of floats, and the type
//   Load(p), Store(p, v)   kWidth floats at p, at any multiple of 4 bytes
//   Set(x)                 x in every lane
//   Add Sub Mul Div Sqrt   lane by lane
//   MulAdd(a, b, c)        a b + c, rounded once where the instruction set can (not in scalar)
//   Min(a, b), Max(a, b)   where an operand is NaN: b, or NaN
//   MaxAbs(m, x)           max(m, |x|) for m >= 0; NaN if either is NaN
//   Round(a)               the nearest integer, ties to even; |a| below 2^22
//   ScaleUnless(x, limit, a, n)   a 2^n for whole n in [-126, 127]; 0 where x < limit
//   StoreLanes(p, v, first, end)  lanes [first, end) of v to p[first .. end); no other element of p is touched
//   StoreInt8x4(q, a, b, c, d, flip)  4 kWidth bytes: q[4 t + i] = lane t of the i-th vector, rounded to the nearest
//                          integer (ties to even), clamped to [-127, 127], its bits exclusive-ored with those of `flip`
//   Transpose(r)           kWidth vectors as a kWidth x kWidth matrix
//
// and its register budget:
//
//   kBlockSums             vectors of sums that panels of 2 or 4 rows keep in registers
//   kGemmVectors           vectors of tokens that four rows of a dense matrix meet at once
//   kQueryVectors          vectors of queries that attention processes together
//   HeightsOf<V>           rows of attention's register blocks of V vectors, V = 1 .. kQueryVectors: the first is as
//                          high as registers allow, the others take the remainder; the last is 1
//   kUnrollRows            whether rows of up to 27 entries have code of their own, unrolled for their length
//
// Optionally:
//
//   AEROGEL_HAS_LOOKUP16   Lookup16, Abs, MulSub: GELU by table (gelu.h)
//   AEROGEL_HAS_BF16       LoadFirst, StoreFirst, StoreFirstBf16, PairBf16, MulAddBf16: products of bfloat16
//                          (bf16_products.h)
#pragma once

#include <cstdint>

// Unrolls before GCC splits arrays into registers; without it they stay on the stack.
#define AEROGEL_UNROLL _Pragma("GCC unroll 32")

namespace aerogel {
namespace AEROGEL_ISA {

// Rows of register blocks, from the highest to 1.
template <int... kRows>
struct Heights {};
template <int V>
struct HeightsOf;

}  // namespace AEROGEL_ISA
}  // namespace aerogel

#include AEROGEL_SIMD_HEADER
