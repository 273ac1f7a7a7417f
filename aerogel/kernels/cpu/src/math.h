// Elementary functions on vectors of floats.
#pragma once

#include "simd.h"

// Unrolled before arrays are taken apart into registers; without it GCC keeps them on the stack.
#define AEROGEL_UNROLL _Pragma("GCC unroll 32")

namespace aerogel {
namespace AEROGEL_ISA {

// e^x for x up to 88, within 2 units in the last place (measured: 1.2 without FMA, 0.9 with it). 0 where the result
// would be below the smallest normal number; NaN stays NaN.
//
// e^x = 2^n e^r, |r| <= ln 2 / 2. The polynomial 1 + r + r^2 (...) is the minimax fit of e^r's relative error, 3.1e-9,
// found by reweighted least squares in float64.
inline Vec Exp(Vec x) {
  const Vec n = Round(Mul(x, Set(1.44269504f)));
  // ln 2 in two parts; the first has few digits, so that its product with n is exact.
  const Vec r = MulAdd(n, Set(2.12194440e-4f), MulAdd(n, Set(-0.693359375f), x));
  Vec p = Set(0.001381454f);
  p = MulAdd(p, r, Set(0.00836874511f));
  p = MulAdd(p, r, Set(0.0416683908f));
  p = MulAdd(p, r, Set(0.166665204f));
  p = MulAdd(p, r, Set(0.499999934f));
  p = MulAdd(p, r, Set(1.0f));
  p = MulAdd(p, r, Set(1.0f));
  return ScaleUnless(x, Set(-87.3365402f), p, n);
}

// Both forms of GELU are x F(x) with F rising from 0 to 1 and F - 1/2 odd. On [-end, end]
//
//   F(x) ~ 1/2 + x p(s),  s = 2 (x / end)^2 - 1 in [-1, 1],
//
// where p is the polynomial of degree 13 with the least error of F weighted by min(1, |x|), subject to F(end) = 1;
// beyond, F is exactly 0 or 1. Found by reweighted least squares over Chebyshev polynomials in float64. In s rather
// than x^2 the coefficients stay below 0.15, and single precision loses nothing to cancellation; no division, and one
// code for both. `end` is where the error of the fit and what is cut off balance.
struct GeluErf {  // F = (1 + erf(x / sqrt 2)) / 2. Error of GELU by max(1, |x|): fit 8.0e-8, in single precision 2.2e-7
  static constexpr float kEnd = 5.2750001f;
  static constexpr float kSquare = 0.0718761906f;  // 2 / kEnd^2
  static constexpr float kTerms[] = {0.134023026f,   -0.0668213442f, 0.0494533256f,  -0.0396850742f,  0.0320894085f,
                                     -0.0251045693f, 0.0185267068f,  -0.013248452f,  0.00927610416f,  -0.00514578354f,
                                     0.00196062587f, -0.0015163651f, 0.00153479876f, -0.000555679202f};
};
struct GeluTanh {  // F = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. The same errors: fit 1.1e-7, 2.2e-7
  static constexpr float kEnd = 4.875f;
  static constexpr float kSquare = 0.0841551647f;
  static constexpr float kTerms[] = {0.144983828f,  -0.0720375553f, 0.0525499135f,  -0.0406683944f, 0.0307521261f,
                                     -0.021958448f, 0.0148484558f,  -0.0093514761f, 0.00493042124f, -0.00258448557f,
                                     0.0023404744f, -0.0016746599f, 0.00034876389f, 8.5140935e-05f};
};

// GELU of N vectors at once: one polynomial is a chain of dependent operations, several fill the units.
template <typename Form, int N>
inline void Gelu(Vec (&x)[N]) {
  constexpr int kLast = sizeof(Form::kTerms) / sizeof(Form::kTerms[0]) - 1;
  Vec clamped[N], s[N], p[N];
  AEROGEL_UNROLL for (int i = 0; i < N; ++i) {
    clamped[i] = Min(Set(Form::kEnd), Max(Set(-Form::kEnd), x[i]));
    s[i] = MulAdd(Mul(clamped[i], clamped[i]), Set(Form::kSquare), Set(-1.0f));
    p[i] = Set(Form::kTerms[kLast]);
  }
  AEROGEL_UNROLL for (int k = kLast - 1; k >= 0; --k) {
    AEROGEL_UNROLL for (int i = 0; i < N; ++i) p[i] = MulAdd(p[i], s[i], Set(Form::kTerms[k]));
  }
  // Rounded product first, then the sum: at the ends it is exactly 1/2 - 1/2.
  AEROGEL_UNROLL for (int i = 0; i < N; ++i) x[i] = Mul(x[i], Add(Set(0.5f), Mul(clamped[i], p[i])));
}

}  // namespace AEROGEL_ISA
}  // namespace aerogel
