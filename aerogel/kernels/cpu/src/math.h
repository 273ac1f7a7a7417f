// Elementary functions on vectors of floats.
#pragma once

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

// e^x for x up to 88; 0 where the result would be below the smallest normal number; NaN stays NaN.
inline Vec Exp(Vec x) {
  const Vec n = Round(Mul(x, Set(1.44269504f)));
  // r = x - n ln 2, with ln 2 in two parts of which the first has trailing zeros.
  const Vec r = MulAdd(n, Set(1.42860677e-6f), MulAdd(n, Set(-0.693145752f), x));
  Vec p = Set(1.0f / 720);
  p = MulAdd(p, r, Set(1.0f / 120));
  p = MulAdd(p, r, Set(1.0f / 24));
  p = MulAdd(p, r, Set(1.0f / 6));
  p = MulAdd(p, r, Set(0.5f));
  p = MulAdd(p, r, Set(1.0f));
  p = MulAdd(p, r, Set(1.0f));
  return ScaleUnless(x, Set(-87.336544f), p, n);
}

}  // namespace AEROGEL_ISA
}  // namespace aerogel
