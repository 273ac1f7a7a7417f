// The few vector operations the kernels need, for the instruction set this file is compiled with.
//
// Everything here and in linear.cc lives in a namespace of the instruction set, and nothing of the standard library
// with external linkage is used: a template compiled with AVX-512 flags here could otherwise be the copy that the
// linker keeps for the whole library, and fault on a CPU without AVX-512.
//
// Where an operand of Min or Max is NaN the result is the second operand, or NaN.
#pragma once

#include <cstdint>

#if defined(AEROGEL_AVX512) || defined(AEROGEL_AVX2)
#include <immintrin.h>
#elif defined(AEROGEL_NEON)
#include <arm_neon.h>
#endif

// Unrolled before arrays are taken apart into registers; without it GCC keeps them on the stack.
#define AEROGEL_UNROLL _Pragma("GCC unroll 32")

namespace aerogel {
namespace AEROGEL_ISA {

#if defined(AEROGEL_AVX512)

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
// To the nearest integer, ties to even; |a| below 2^22.
inline Vec Round(Vec a) { return _mm512_roundscale_ps(a, 8); }
// a * 2^n for whole n in [-126, 127], but 0 where x < limit.
inline Vec ScaleUnless(Vec x, Vec limit, Vec a, Vec n) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), a, n);
}
// The greater of m and |x|, for m not below 0; NaN as soon as either is NaN, whose bits are greater than infinity's.
inline Vec MaxAbs(Vec m, Vec x) {
  const __m512i bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(m), bits));
}
// Lanes [first, end) of v; the rest of p is not touched.
inline void StoreLanes(float* p, Vec v, int64_t first, int64_t end) {
  const unsigned below = (1u << end) - (1u << first);
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(below), v);
}
// The integers nearest to a, b, c and d, ties to even, as bytes that saturate at -127 and 127; those of a lane are
// adjacent. Their bits are exclusive-ored with those of `flip`.
inline void StoreQuads(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
  const __m512 most = _mm512_set1_ps(127.0f);  // what does not fit an integer becomes the least one
  const __m512i ab =
      _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(a, most)), _mm512_cvtps_epi32(_mm512_min_ps(b, most)));
  const __m512i cd =
      _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(c, most)), _mm512_cvtps_epi32(_mm512_min_ps(d, most)));
  const __m512i bytes = _mm512_max_epi8(_mm512_packs_epi16(ab, cd), _mm512_set1_epi8(-127));
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  _mm512_storeu_si512(q, _mm512_xor_si512(_mm512_shuffle_epi8(bytes, order), _mm512_set1_epi32(flip)));
}

// Transposes kWidth rows of kWidth floats.
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
  // r[4 i + j] holds columns j, j+4, j+8, j+12 of rows 4i..4i+3, one a 128-bit lane.
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88);       // columns j, j+8 of rows 0..7
    const __m512 b = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);  // the same of rows 8..15
    const __m512 c = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);       // columns j+4, j+12
    const __m512 d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    r[j] = _mm512_shuffle_f32x4(a, b, 0x88);
    r[j + 8] = _mm512_shuffle_f32x4(a, b, 0xdd);
    r[j + 4] = _mm512_shuffle_f32x4(c, d, 0x88);
    r[j + 12] = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
}

#elif defined(AEROGEL_AVX2)

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
inline void StoreQuads(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
  const __m256 most = _mm256_set1_ps(127.0f);  // what does not fit an integer becomes the least one
  const __m256i ab =
      _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(a, most)), _mm256_cvtps_epi32(_mm256_min_ps(b, most)));
  const __m256i cd =
      _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(c, most)), _mm256_cvtps_epi32(_mm256_min_ps(d, most)));
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

#elif defined(AEROGEL_NEON)

constexpr int kWidth = 4;
using Vec = float32x4_t;
inline Vec Load(const float* p) { return vld1q_f32(p); }
inline void Store(float* p, Vec v) { vst1q_f32(p, v); }
inline Vec Set(float x) { return vdupq_n_f32(x); }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
inline Vec Add(Vec a, Vec b) { return vaddq_f32(a, b); }
inline Vec Sub(Vec a, Vec b) { return vsubq_f32(a, b); }
inline Vec Mul(Vec a, Vec b) { return vmulq_f32(a, b); }
inline Vec Div(Vec a, Vec b) { return vdivq_f32(a, b); }
inline Vec Min(Vec a, Vec b) { return vminq_f32(a, b); }
inline Vec Max(Vec a, Vec b) { return vmaxq_f32(a, b); }
inline Vec Sqrt(Vec a) { return vsqrtq_f32(a); }
inline Vec Round(Vec a) { return vrndnq_f32(a); }
inline Vec ScaleUnless(Vec x, Vec limit, Vec a, Vec n) {
  const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  const float32x4_t scaled = vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(scaled), vcltq_f32(x, limit)));
}
inline Vec MaxAbs(Vec m, Vec x) { return vmaxq_f32(m, vabsq_f32(x)); }
inline void StoreLanes(float* p, Vec v, int64_t first, int64_t end) {
  float lanes[4];
  vst1q_f32(lanes, v);
  for (int64_t i = first; i < end; ++i) p[i] = lanes[i];
}
inline void StoreQuads(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
  const float32x4_t most = vdupq_n_f32(127.0f);
  const float32x4_t least = vdupq_n_f32(-127.0f);
  const auto whole = [&](Vec x) { return vcvtnq_s32_f32(vmaxq_f32(vminq_f32(x, most), least)); };
  int32x4_t quads = vsliq_n_s32(whole(a), whole(b), 8);
  quads = vsliq_n_s32(quads, whole(c), 16);
  quads = vsliq_n_s32(quads, whole(d), 24);
  vst1q_u8(q, vreinterpretq_u8_s32(veorq_s32(quads, vdupq_n_s32(flip))));
}

inline void Transpose(Vec (&r)[4]) {
  const float32x4x2_t a = vtrnq_f32(r[0], r[1]);
  const float32x4x2_t b = vtrnq_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  r[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  r[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  r[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

#else  // scalar: what GCC and Clang make of plain C++, the reference the other instruction sets are held against

constexpr int kWidth = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
struct Vec {
  Floats v;
};
inline Vec Load(const float* p) { return {Floats{p[0], p[1], p[2], p[3]}}; }
inline void Store(float* p, Vec a) { __builtin_memcpy(p, &a.v, sizeof a.v); }
inline Vec Set(float x) { return {Floats{x, x, x, x}}; }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
inline Vec Add(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec Sub(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec Mul(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec Div(Vec a, Vec b) { return {a.v / b.v}; }
inline Vec Min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
inline Vec Max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
inline Vec Sqrt(Vec a) {
  for (int i = 0; i < 4; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
inline Vec Round(Vec a) {  // beyond 2^23 there is no place for a fraction
  const Floats shift = Set(12582912.0f).v;
  return {a.v + shift - shift};
}
inline Vec ScaleUnless(Vec x, Vec limit, Vec a, Vec n) {
  const Ints exponent = __builtin_convertvector(n.v, Ints) + 127;
  const Floats power = reinterpret_cast<Floats>(exponent << 23);
  return {x.v < limit.v ? Set(0.0f).v : a.v * power};
}
inline Vec MaxAbs(Vec m, Vec x) {
  const Ints bits = reinterpret_cast<Ints>(x.v) & 0x7fffffff, before = reinterpret_cast<Ints>(m.v);
  return {reinterpret_cast<Floats>(bits > before ? bits : before)};
}
inline void StoreLanes(float* p, Vec v, int64_t first, int64_t end) {
  for (int64_t i = first; i < end; ++i) p[i] = v.v[i];
}
inline void StoreQuads(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
  const Vec all[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    const Vec whole = Round(Max(Min(all[i], Set(127.0f)), Set(-127.0f)));
    for (int j = 0; j < 4; ++j) {
      q[4 * j + i] = static_cast<uint8_t>(static_cast<int8_t>(whole.v[j])) ^ static_cast<uint8_t>(flip);
    }
  }
}
inline void Transpose(Vec (&r)[4]) {
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = r[i].v[j];
      r[i].v[j] = r[j].v[i];
      r[j].v[i] = x;
    }
  }
}

#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
