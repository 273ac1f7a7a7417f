// GELU, in both forms: x F(x), where F rises from 0 to 1 and F - 1/2 is odd.
//
// tools/fit_gelu.py fits the coefficients, minimizing the greatest error of F times min(1, |x|), and measures them. Max
// error is that of GELU divided by max(1, |x|): first that of the coefficients, in float64, then that in single
// precision.
//
// Over all of [-end, end] at once:
//
//   F(x) ~ 1/2 + x p(s),  s = 2 (x / end)^2 - 1 in [-1, 1],
//
// with p a polynomial of degree 13 such that F(end) = 1; beyond, F is exactly 0 or 1. In s rather than x^2 the
// coefficients stay below 0.15, and nothing is lost to cancellation. `end` balances the error of the fit and that of
// the clamping.
//
// In pieces, where a register holds 16 coefficients and an instruction picks one for each lane:
//
//   F(x) ~ 1/2 + sign(x) q_n(r),  |x| = (n + r) / kPiecesPerUnit,  |r| <= 1/2,
//
// with polynomials q_n of degree 4; the last is the constant 1/2, for all greater |x|. It takes half the time.
#pragma once

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

// F = (1 + erf(x / sqrt 2)) / 2.
// Max error: fit 8.5e-8 at once, 9.0e-8 in pieces; single precision 2.2e-7 at once, 1.5e-7 in pieces.
struct GeluErf {
  // In pieces.
  static constexpr float kPiecesPerUnit = 2.77777767f;
  static constexpr float kPieces[5][16] = {
      {4.52912658e-08f, 0.140576467f, 0.264237493f, 0.359928906f, 0.425066292f, 0.464069694f, 0.484613657f,
       0.494132251f, 0.498011619f, 0.499402344f, 0.499840885f, 0.499962538f, 0.499992192f, 0.499998569f, 0.499999762f,
       0.5f},
      {0.143617928f, 0.134607092f, 0.11082641f, 0.0801558197f, 0.0509262979f, 0.0284225177f, 0.0139345918f,
       0.0060011521f, 0.00227028551f, 0.000754445966f, 0.000220228438f, 5.646918e-05f, 1.2718534e-05f, 2.5161944e-06f,
       4.37246399e-07f, 0.0f},
      {1.18804619e-05f, -0.00872365665f, -0.0143628409f, -0.0155819384f, -0.0131999562f, -0.0092088962f,
       -0.00541784754f, -0.00272221351f, -0.0011769844f, -0.000440032309f, -0.000142726465f, -4.02584192e-05f,
       -9.89229829e-06f, -2.12030636e-06f, -3.9682979e-07f, 0.0f},
      {-0.00315008615f, -0.00251809368f, -0.00115212344f, 0.000278962048f, 0.0011695415f, 0.00136779435f,
       0.00110131095f, 0.000694908027f, 0.000359904632f, 0.000156450522f, 5.78071849e-05f, 1.82995373e-05f,
       4.98958207e-06f, 1.1762279e-06f, 2.40396503e-07f, 0.0f},
      {8.78922583e-05f, 0.000273564423f, 0.000382283702f, 0.000306771341f, 0.000132447327f, -2.25786807e-05f,
       -9.63663915e-05f, -9.80446348e-05f, -6.73180839e-05f, -3.58134748e-05f, -1.55100133e-05f, -5.60092076e-06f,
       -1.70987505e-06f, -4.45165114e-07f, -9.94291653e-08f, 0.0f},
  };
  // At once.
  static constexpr float kEnd = 5.2750001f;
  static constexpr float kSquare = 0.0718761906f;  // 2 / kEnd^2
  static constexpr float kTerms[] = {0.134023026f,   -0.0668213442f, 0.0494533256f,  -0.0396850742f,  0.0320894085f,
                                     -0.0251045693f, 0.0185267068f,  -0.013248452f,  0.00927610416f,  -0.00514578354f,
                                     0.00196062587f, -0.0015163651f, 0.00153479876f, -0.000555679202f};
};

// F = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
// Max error: fit 1.2e-7 at once, 7.5e-8 in pieces; single precision 2.2e-7 at once, 1.2e-7 in pieces.
struct GeluTanh {
  // In pieces.
  static constexpr float kPiecesPerUnit = 2.94117641f;
  static constexpr float kPieces[5][16] = {
      {3.48903519e-08f, 0.133059829f, 0.251673788f, 0.345979154f, 0.412913233f, 0.455356419f, 0.479389876f,
       0.491506159f, 0.496909767f, 0.499020576f, 0.499733567f, 0.499938786f, 0.499988317f, 0.499998182f, 0.499999762f,
       0.5f},
      {0.135639384f, 0.127988234f, 0.107556537f, 0.0805617869f, 0.0538380705f, 0.0321120396f, 0.0170658752f,
       0.00804125238f, 0.00333023746f, 0.00119762332f, 0.00036855138f, 9.54976858e-05f, 2.04873995e-05f,
       3.57741442e-06f, 4.99832652e-07f, 0.0f},
      {9.14802058e-06f, -0.00742963469f, -0.0124565475f, -0.0139440885f, -0.0123782447f, -0.00921498146f,
       -0.0058978498f, -0.00327784568f, -0.00158162345f, -0.000657502562f, -0.000232507198f, -6.88578584e-05f,
       -1.67942871e-05f, -3.31628644e-06f, -5.21256936e-07f, 0.0f},
      {-0.00266315229f, -0.00217499444f, -0.00110012002f, 7.20736498e-05f, 0.000869931304f, 0.00114049145f,
       0.00101488002f, 0.000718369149f, 0.000423906808f, 0.000211021208f, 8.82472086e-05f, 3.06364491e-05f,
       8.69779433e-06f, 1.98745215e-06f, 3.59733775e-07f, 0.0f},
      {6.76200871e-05f, 0.000212497602f, 0.000305517053f, 0.00025988245f, 0.00013264532f, 8.96922666e-06f,
       -6.18687482e-05f, -7.91458733e-05f, -6.49502617e-05f, -4.13107919e-05f, -2.1226766e-05f, -8.84635938e-06f,
       -2.96434905e-06f, -7.88552427e-07f, -1.64226037e-07f, 0.0f},
  };
  // At once.
  static constexpr float kEnd = 4.875f;
  static constexpr float kSquare = 0.0841551647f;
  static constexpr float kTerms[] = {0.144983828f,  -0.0720375553f, 0.0525499135f,  -0.0406683944f, 0.0307521261f,
                                     -0.021958448f, 0.0148484558f,  -0.0093514761f, 0.00493042124f, -0.00258448557f,
                                     0.0023404744f, -0.0016746599f, 0.00034876389f, 8.5140935e-05f};
};

#if defined(AEROGEL_HAS_LOOKUP16)

// Replaces each of the N vectors by its GELU, in pieces.
template <typename Form, int N>
inline void Gelu(Vec (&x)[N]) {
  constexpr int kDegree = 4;
  // Adding `shift` leaves the nearest integer in the low bits, four of which Lookup16 uses.
  const Vec shift = Set(12582912.0f), pieces = Set(Form::kPiecesPerUnit), top = Set(15.0f / Form::kPiecesPerUnit);
  AEROGEL_UNROLL for (int i = 0; i < N; ++i) {
    const Vec size = Abs(x[i]), inside = Min(top, size);
    const Vec shifted = MulAdd(inside, pieces, shift);
    const Vec r = MulSub(inside, pieces, Sub(shifted, shift));
    Vec q = Lookup16(Form::kPieces[kDegree], shifted);
    AEROGEL_UNROLL for (int k = kDegree - 1; k >= 0; --k) { q = MulAdd(q, r, Lookup16(Form::kPieces[k], shifted)); }
    x[i] = MulAdd(size, q, Mul(x[i], Set(0.5f)));  // |x| sign(x) = x
  }
}

#else

// Replaces each of the N vectors by its GELU, by one polynomial. N vectors at once: one polynomial is a chain of
// dependent operations, several fill the units.
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
  // The product is rounded before the sum, so that at the ends the result is exactly 1/2 - 1/2.
  AEROGEL_UNROLL for (int i = 0; i < N; ++i) x[i] = Mul(x[i], Add(Set(0.5f), Mul(clamped[i], p[i])));
}

#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
