// AVX-512 F, BW, DQ and VL; with VNNI and BF16 where the flags have them. The interface is described in simd.h.
#pragma once

#include <immintrin.h>

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

constexpr int kWidth = 16;
using Vec = __m512;
inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec Set(float x) { return _mm512_set1_ps(x); }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec Sqrt(Vec a) { return _mm512_sqrt_ps(a); }
inline Vec Round(Vec a) { return _mm512_roundscale_ps(a, 8); }
inline Vec ScaleUnless(Vec x, Vec limit, Vec a, Vec n) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), a, n);
}
// As integers, the bits of a NaN are greater than those of infinity.
inline Vec MaxAbs(Vec m, Vec x) {
  const __m512i bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(m), bits));
}
inline void StoreLanes(float* p, Vec v, int64_t first, int64_t end) {
  const unsigned below = (1u << end) - (1u << first);
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(below), v);
}
inline void StoreInt8x4(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
  const __m512 limit = _mm512_set1_ps(127.0f);  // the conversion turns what is too large into INT32_MIN
  const __m512i ab =
      _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(a, limit)), _mm512_cvtps_epi32(_mm512_min_ps(b, limit)));
  const __m512i cd =
      _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(c, limit)), _mm512_cvtps_epi32(_mm512_min_ps(d, limit)));
  const __m512i bytes = _mm512_max_epi8(_mm512_packs_epi16(ab, cd), _mm512_set1_epi8(-127));
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  _mm512_storeu_si512(q, _mm512_xor_si512(_mm512_shuffle_epi8(bytes, order), _mm512_set1_epi32(flip)));
}

inline void Transpose(Vec (&r)[16]) {
  __m512 t[16];
  for (int i = 0; i < 8; ++i) {  // pairs of rows, 32-bit units
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {  // quadruples of rows, 64-bit units
    for (int j = 0; j < 2; ++j) {
      const __m512d a = _mm512_castps_pd(t[4 * i + j]);
      const __m512d b = _mm512_castps_pd(t[4 * i + 2 + j]);
      r[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      r[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
  }
  // r[4 i + j] holds columns j, j+4, j+8, j+12 of rows 4i..4i+3, one in each 128-bit lane.
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88);       // columns j, j+8 of rows 0..7
    const __m512 b = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);  // columns j, j+8 of rows 8..15
    const __m512 c = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);       // columns j+4, j+12 of rows 0..7
    const __m512 d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    r[j] = _mm512_shuffle_f32x4(a, b, 0x88);
    r[j + 8] = _mm512_shuffle_f32x4(a, b, 0xdd);
    r[j + 4] = _mm512_shuffle_f32x4(c, d, 0x88);
    r[j + 12] = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
}

// Of 32 registers.
constexpr int kBlockSums = 16;
constexpr int kGemmVectors = 4;
constexpr int kQueryVectors = 4;
constexpr bool kUnrollRows = true;
template <>
struct HeightsOf<1> : Heights<16, 8, 4, 2, 1> {};
template <>
struct HeightsOf<2> : Heights<12, 8, 4, 2, 1> {};
template <>
struct HeightsOf<3> : Heights<8, 4, 2, 1> {};
template <>
struct HeightsOf<4> : Heights<6, 4, 2, 1> {};

// For GELU by table. A vector of floats doubles as one of table indices: Lookup16 uses the low four bits of each lane.
#define AEROGEL_HAS_LOOKUP16 1
inline Vec Lookup16(const float (&table)[16], Vec index) {
  return _mm512_permutexvar_ps(_mm512_castps_si512(index), Load(table));
}
inline Vec Abs(Vec a) { return _mm512_abs_ps(a); }
// a b - c, rounded once.
inline Vec MulSub(Vec a, Vec b, Vec c) { return _mm512_fmsub_ps(a, b, c); }

#if defined(__AVX512BF16__)
// For products of bfloat16. A pair is two bfloat16 numbers in the 32 bits of a lane.
#define AEROGEL_HAS_BF16 1
// The mask of the first `count` lanes; of all if `count` exceeds kWidth.
inline __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>(count < kWidth ? (1u << count) - 1 : 0xffffu);
}
// The first `count` floats at p, 0 in the other lanes.
inline Vec LoadFirst(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(FirstLanes(count), p); }
// The first `count` lanes; nothing behind them is touched.
inline void StoreFirst(float* p, Vec v, int64_t count) { _mm512_mask_storeu_ps(p, FirstLanes(count), v); }
// The same, rounded to bfloat16.
inline void StoreFirstBf16(uint16_t* p, Vec v, int64_t count) {
  _mm256_mask_storeu_epi16(p, FirstLanes(count), (__m256i)_mm512_cvtneps_pbh(v));
}
// Lane by lane the pair of both numbers rounded to bfloat16: `low` in the lower half, `high` in the upper.
inline Vec PairBf16(Vec low, Vec high) {
  alignas(64) static constexpr int16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const auto both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
  return _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both));
}
// sum + a.low b.low + a.high b.high for pairs a and b.
inline Vec MulAddBf16(Vec a, Vec b, Vec sum) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
