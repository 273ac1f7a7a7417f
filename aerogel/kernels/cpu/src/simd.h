// The few vector operations the kernels need, for the instruction set this file is compiled with.
//
// Everything here and in linear.cc lives in a namespace of the instruction set, and nothing of the standard library
// with external linkage is used: a template compiled with AVX-512 flags here could otherwise be the copy that the
// linker keeps for the whole library, and fault on a CPU without AVX-512.
#pragma once

#include <cstdint>

#if defined(AEROGEL_AVX512) || defined(AEROGEL_AVX2)
#include <immintrin.h>
#elif defined(AEROGEL_NEON)
#include <arm_neon.h>
#endif

namespace aerogel {
namespace AEROGEL_ISA {

#if defined(AEROGEL_AVX512)

constexpr int kWidth = 16;
using Vec = __m512;
inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec Set(float x) { return _mm512_set1_ps(x); }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }

// Transposes 16 rows of 16 floats: src row stride `from`, dst row stride `to`.
inline void Transpose(const float* src, int64_t from, float* dst, int64_t to) {
  __m512 r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(src + i * from);
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
  for (int j = 0; j < 4; ++j) {  // r[4 i + j] holds columns j, j+4, j+8, j+12 of rows 4i..4i+3, one a 128-bit lane
    const __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88);       // columns j, j+8 of rows 0..7
    const __m512 b = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);  // the same of rows 8..15
    const __m512 c = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);       // columns j+4, j+12
    const __m512 d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    _mm512_storeu_ps(dst + j * to, _mm512_shuffle_f32x4(a, b, 0x88));
    _mm512_storeu_ps(dst + (j + 8) * to, _mm512_shuffle_f32x4(a, b, 0xdd));
    _mm512_storeu_ps(dst + (j + 4) * to, _mm512_shuffle_f32x4(c, d, 0x88));
    _mm512_storeu_ps(dst + (j + 12) * to, _mm512_shuffle_f32x4(c, d, 0xdd));
  }
}

#elif defined(AEROGEL_AVX2)

constexpr int kWidth = 8;
using Vec = __m256;
inline Vec Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline Vec Set(float x) { return _mm256_set1_ps(x); }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }

inline void Transpose(const float* src, int64_t from, float* dst, int64_t to) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(src + i * from);
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
    _mm256_storeu_ps(dst + j * to, _mm256_permute2f128_ps(r[j], r[4 + j], 0x20));
    _mm256_storeu_ps(dst + (j + 4) * to, _mm256_permute2f128_ps(r[j], r[4 + j], 0x31));
  }
}

#elif defined(AEROGEL_NEON)

constexpr int kWidth = 4;
using Vec = float32x4_t;
inline Vec Load(const float* p) { return vld1q_f32(p); }
inline void Store(float* p, Vec v) { vst1q_f32(p, v); }
inline Vec Set(float x) { return vdupq_n_f32(x); }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }

inline void Transpose(const float* src, int64_t from, float* dst, int64_t to) {
  const float32x4x2_t a = vtrnq_f32(vld1q_f32(src), vld1q_f32(src + from));
  const float32x4x2_t b = vtrnq_f32(vld1q_f32(src + 2 * from), vld1q_f32(src + 3 * from));
  vst1q_f32(dst, vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0])));
  vst1q_f32(dst + to, vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1])));
  vst1q_f32(dst + 2 * to, vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0])));
  vst1q_f32(dst + 3 * to, vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1])));
}

#else  // scalar: plain C++, the reference the other instruction sets are held against

constexpr int kWidth = 4;
struct Vec {
  float v[4];
};
inline Vec Load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
inline void Store(float* p, Vec a) {
  for (int i = 0; i < 4; ++i) p[i] = a.v[i];
}
inline Vec Set(float x) { return {{x, x, x, x}}; }
inline Vec MulAdd(Vec a, Vec b, Vec c) {
  for (int i = 0; i < 4; ++i) c.v[i] += a.v[i] * b.v[i];
  return c;
}
inline void Transpose(const float* src, int64_t from, float* dst, int64_t to) {
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) dst[j * to + i] = src[i * from + j];
  }
}

#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
