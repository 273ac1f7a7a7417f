// The exponential function, to base 2, of vectors of floats.
#pragma once

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

// 2^x for x up to 127. Max error: 1.2 ULP. 0 where the result would be below the smallest normal number; NaN stays NaN.
// Softmax uses powers of 2 because x minus its nearest integer is exact.
//
// 2^x = 2^n 2^r, |r| <= 1/2. The polynomial is the fit of 2^r with the least relative error, 2.0e-9, and 1 at 0, by
// reweighted least squares in float64.
inline Vec Exp2(Vec x) {
  const Vec n = Round(x);
  const Vec r = Sub(x, n);
  Vec p = Set(0.00015353362f);
  p = MulAdd(p, r, Set(0.00133988739f));
  p = MulAdd(p, r, Set(0.00961843692f));
  p = MulAdd(p, r, Set(0.0555033237f));
  p = MulAdd(p, r, Set(0.240226477f));
  p = MulAdd(p, r, Set(0.693147182f));
  p = MulAdd(p, r, Set(1.0f));
  return ScaleUnless(x, Set(-126.0f), p, n);
}

}  // namespace AEROGEL_ISA
}  // namespace aerogel
