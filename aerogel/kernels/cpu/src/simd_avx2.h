// AVX2, FMA and F16C; with AVX-VNNI where the flags have it. The interface is described in simd.h.
#pragma once

#include <immintrin.h>

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

constexpr int kWidth = 8;
using Vec = __m256;
inline Vec Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline Vec Set(float x) { return _mm256_set1_ps(x); }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec Sqrt(Vec a) { return _mm256_sqrt_ps(a); }
inline Vec Round(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec ScaleUnless(Vec x, Vec limit, Vec a, Vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  const __m256 scaled = _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_NLT_UQ), scaled);
}
inline Vec MaxAbs(Vec m, Vec x) {
  const __m256i bits = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(m), bits));
}
inline void StoreLanes(float* p, Vec v, int64_t first, int64_t end) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(first)), lane);
  const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end)), lane);
  _mm256_maskstore_ps(p, _mm256_andnot_si256(before, below), v);
}
inline void StoreInt8x4(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
  const __m256 limit = _mm256_set1_ps(127.0f);  // the conversion turns what is too large into INT32_MIN
  const __m256i ab =
      _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(a, limit)), _mm256_cvtps_epi32(_mm256_min_ps(b, limit)));
  const __m256i cd =
      _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(c, limit)), _mm256_cvtps_epi32(_mm256_min_ps(d, limit)));
  const __m256i bytes = _mm256_max_epi8(_mm256_packs_epi16(ab, cd), _mm256_set1_epi8(-127));
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q),
                      _mm256_xor_si256(_mm256_shuffle_epi8(bytes, order), _mm256_set1_epi32(flip)));
}

inline void Transpose(Vec (&r)[8]) {
  __m256 t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      r[4 * i + 2 * j] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0x44);
      r[4 * i + 2 * j + 1] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0xee);
    }
  }
  for (int j = 0; j < 4; ++j) {
    const __m256 low = r[j];
    r[j] = _mm256_permute2f128_ps(low, r[4 + j], 0x20);
    r[4 + j] = _mm256_permute2f128_ps(low, r[4 + j], 0x31);
  }
}

// Of 16 registers.
constexpr int kBlockSums = 8;
constexpr int kGemmVectors = 2;
constexpr int kQueryVectors = 2;
constexpr bool kUnrollRows = true;
template <>
struct HeightsOf<1> : Heights<10, 4, 2, 1> {};
template <>
struct HeightsOf<2> : Heights<6, 4, 2, 1> {};

}  // namespace AEROGEL_ISA
}  // namespace aerogel
