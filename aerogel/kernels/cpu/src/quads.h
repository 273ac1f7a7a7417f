// Stored weights as the inner loops take them: four at a time, then one of the four against a vector of activations.
//
// Four values by one load, spread inside the register, leave the load ports to the activations: an entry of a sparse
// row costs one load for each of its vectors of activations and half of one for its value and column, instead of two.
// Each kind of stored value is a struct with the same operations:
//
//   Value          what lies in memory
//   Sum            a vector of sums; LoadSum, StoreSum, Plus, Zero
//   X              a vector of activations; LoadX
//   Quad           four weights; LoadFour(p), LoadOne(p) (in place 0), MulAdd<j>(quad, x, sum)
//   Start          SpreadStart(p): a row's bias, or the offset of its eight-bit sums, for every token
#pragma once

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

#define AEROGEL_INLINE inline __attribute__((always_inline))

#if defined(AEROGEL_AVX512)

struct Float32 {
  using Value = float;
  using Start = float;
  using Sum = Vec;
  using X = Vec;
  using Quad = __m512;  // the four in every 128-bit lane
  static AEROGEL_INLINE Quad LoadFour(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
  static AEROGEL_INLINE Quad LoadOne(const float* p) { return _mm512_set1_ps(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm512_loadu_ps(p); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return _mm512_loadu_ps(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm512_storeu_ps(p, s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static AEROGEL_INLINE Sum SpreadStart(const float* p) { return _mm512_set1_ps(*p); }
  static AEROGEL_INLINE Sum Zero() { return _mm512_setzero_ps(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
    return _mm512_fmadd_ps(_mm512_permute_ps(q, J * 0x55), x, s);
  }
};

struct Float16 : Float32 {
  using Value = uint16_t;
  static AEROGEL_INLINE Quad LoadFour(const uint16_t* p) {
    return _mm512_broadcast_f32x4(_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static AEROGEL_INLINE Quad LoadOne(const uint16_t* p) {
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(*p)));
  }
};

struct Int8 {
  using Value = int32_t;  // four int8 weights of neighbouring features
  using Start = int32_t;
  using Sum = __m512i;
  using X = __m512i;
  using Quad = __m512i;
  static AEROGEL_INLINE Quad LoadFour(const int32_t* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static AEROGEL_INLINE Quad LoadOne(const int32_t* p) { return _mm512_set1_epi32(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm512_loadu_si512(p); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return _mm512_loadu_si512(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm512_storeu_si512(p, s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  static AEROGEL_INLINE Sum SpreadStart(const int32_t* p) { return _mm512_set1_epi32(*p); }
  static AEROGEL_INLINE Sum Zero() { return _mm512_setzero_si512(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
    const __m512i w = _mm512_shuffle_epi32(q, static_cast<_MM_PERM_ENUM>(J * 0x55));
#if defined(AEROGEL_DOT)
    return _mm512_dpbusd_epi32(s, x, w);
#else
    // Magnitudes of x times w under the sign of x: sums of two stay below 2^15, so nothing saturates.
    const __m512i signed_w = _mm512_mask_sub_epi8(w, _mm512_movepi8_mask(x), _mm512_setzero_si512(), w);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x), signed_w);
    return _mm512_add_epi32(s, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
  }
};

#elif defined(AEROGEL_AVX2)

struct Float32 {
  using Value = float;
  using Start = float;
  using Sum = Vec;
  using X = Vec;
  using Quad = __m256;
  static AEROGEL_INLINE Quad LoadFour(const float* p) {
    return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
  }
  static AEROGEL_INLINE Quad LoadOne(const float* p) { return _mm256_broadcast_ss(p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm256_storeu_ps(reinterpret_cast<float*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm256_add_ps(a, b); }
  static AEROGEL_INLINE Sum SpreadStart(const float* p) { return _mm256_broadcast_ss(p); }
  static AEROGEL_INLINE Sum Zero() { return _mm256_setzero_ps(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
    return _mm256_fmadd_ps(_mm256_permute_ps(q, J * 0x55), x, s);
  }
};

struct Float16 : Float32 {
  using Value = uint16_t;
  static AEROGEL_INLINE Quad LoadFour(const uint16_t* p) {
    const __m128 four = _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(four), four, 1);
  }
  static AEROGEL_INLINE Quad LoadOne(const uint16_t* p) {
    return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(*p)));
  }
};

struct Int8 {
  using Value = int32_t;
  using Start = int32_t;
  using Sum = __m256i;
  using X = __m256i;
  using Quad = __m256i;
  static AEROGEL_INLINE Quad LoadFour(const int32_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static AEROGEL_INLINE Quad LoadOne(const int32_t* p) { return _mm256_set1_epi32(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
  static AEROGEL_INLINE Sum SpreadStart(const int32_t* p) { return _mm256_set1_epi32(*p); }
  static AEROGEL_INLINE Sum Zero() { return _mm256_setzero_si256(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
    const __m256i w = _mm256_shuffle_epi32(q, J * 0x55);
#if defined(AEROGEL_DOT)
    return _mm256_dpbusd_avx_epi32(s, x, w);
#else
    // As above; vpsignb gives w the sign of x.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
    return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }
};

#elif defined(AEROGEL_NEON)

struct Float32 {
  using Value = float;
  using Start = float;
  using Sum = Vec;
  using X = Vec;
  using Quad = float32x4_t;
  static AEROGEL_INLINE Quad LoadFour(const float* p) { return vld1q_f32(p); }
  static AEROGEL_INLINE Quad LoadOne(const float* p) { return vdupq_n_f32(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return vld1q_f32(reinterpret_cast<const float*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { vst1q_f32(reinterpret_cast<float*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return vaddq_f32(a, b); }
  static AEROGEL_INLINE Sum SpreadStart(const float* p) { return vdupq_n_f32(*p); }
  static AEROGEL_INLINE Sum Zero() { return vdupq_n_f32(0.0f); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
    return vfmaq_laneq_f32(s, x, q, J);
  }
};

struct Float16 : Float32 {
  using Value = uint16_t;
  static AEROGEL_INLINE Quad LoadFour(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static AEROGEL_INLINE Quad LoadOne(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(*p))); }
};

struct Int8 {
  using Value = int32_t;
  using Start = int32_t;
  using Sum = int32x4_t;
  using X = int8x16_t;
  using Quad = int8x16_t;
  static AEROGEL_INLINE Quad LoadFour(const int32_t* p) { return vreinterpretq_s8_s32(vld1q_s32(p)); }
  static AEROGEL_INLINE Quad LoadOne(const int32_t* p) { return vreinterpretq_s8_s32(vdupq_n_s32(*p)); }
  static AEROGEL_INLINE X LoadX(const char* p) { return vld1q_s8(reinterpret_cast<const int8_t*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return vld1q_s32(reinterpret_cast<const int32_t*>(p)); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { vst1q_s32(reinterpret_cast<int32_t*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return vaddq_s32(a, b); }
  static AEROGEL_INLINE Sum SpreadStart(const int32_t* p) { return vdupq_n_s32(*p); }
  static AEROGEL_INLINE Sum Zero() { return vdupq_n_s32(0); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
#if defined(AEROGEL_DOT)
    return vdotq_laneq_s32(s, x, q, J);
#else
    const int8x16_t w = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(q), J));
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
    const int16x8_t high = vmull_high_s8(x, w);
    return vaddq_s32(s, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
  }
};

#else  // scalar

struct Float32 {
  using Value = float;
  using Start = float;
  using Sum = Vec;
  using X = Vec;
  using Quad = Vec;
  static AEROGEL_INLINE Quad LoadFour(const float* p) { return Load(p); }
  static AEROGEL_INLINE Quad LoadOne(const float* p) { return Set(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return Load(reinterpret_cast<const float*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { Store(reinterpret_cast<float*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return Add(a, b); }
  static AEROGEL_INLINE Sum SpreadStart(const float* p) { return Set(*p); }
  static AEROGEL_INLINE Sum Zero() { return Set(0.0f); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
    return aerogel::AEROGEL_ISA::MulAdd(Set(q.v[J]), x, s);
  }
};

// IEEE half to single precision, exact.
inline float Widen(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  uint32_t exponent = (half >> 10) & 31u, fraction = half & 0x3ffu, bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | fraction << 13;
  } else if (exponent != 0) {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  } else if (fraction == 0) {
    bits = sign;
  } else {  // subnormal: shift the leading one into its place
    exponent = 113;
    for (; !(fraction & 0x400u); fraction <<= 1) --exponent;
    bits = sign | exponent << 23 | (fraction & 0x3ffu) << 13;
  }
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

struct Float16 : Float32 {
  using Value = uint16_t;
  static AEROGEL_INLINE Quad LoadFour(const uint16_t* p) {
    return {Floats{Widen(p[0]), Widen(p[1]), Widen(p[2]), Widen(p[3])}};
  }
  static AEROGEL_INLINE Quad LoadOne(const uint16_t* p) { return Set(Widen(*p)); }
};

struct Int8 {
  using Value = int32_t;
  using Start = int32_t;
  struct Sum {
    int32_t v[4];
  };
  struct X {
    int8_t v[4][4];
  };
  using Quad = X;
  static AEROGEL_INLINE Quad LoadFour(const int32_t* p) { return LoadX(reinterpret_cast<const char*>(p)); }
  static AEROGEL_INLINE Quad LoadOne(const int32_t* p) {
    Quad q{};
    __builtin_memcpy(q.v[0], p, 4);
    return q;
  }
  static AEROGEL_INLINE X LoadX(const char* p) {
    X x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
  }
  static AEROGEL_INLINE Sum LoadSum(const char* p) {
    Sum s;
    __builtin_memcpy(&s, p, sizeof s);
    return s;
  }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { __builtin_memcpy(p, &s, sizeof s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) {
    for (int t = 0; t < 4; ++t) a.v[t] += b.v[t];
    return a;
  }
  static AEROGEL_INLINE Sum SpreadStart(const int32_t* p) { return {{*p, *p, *p, *p}}; }
  static AEROGEL_INLINE Sum Zero() { return {{0, 0, 0, 0}}; }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Quad q, X x, Sum s) {
    for (int t = 0; t < 4; ++t) {
      for (int k = 0; k < 4; ++k) s.v[t] += q.v[J][k] * x.v[t][k];
    }
    return s;
  }
};

#endif

// A vector of int32 as floats.
inline Vec LoadAsFloat(const char* p) {
#if defined(AEROGEL_AVX512)
  return _mm512_cvtepi32_ps(Int8::LoadSum(p));
#elif defined(AEROGEL_AVX2)
  return _mm256_cvtepi32_ps(Int8::LoadSum(p));
#elif defined(AEROGEL_NEON)
  return vcvtq_f32_s32(Int8::LoadSum(p));
#else
  const Int8::Sum s = Int8::LoadSum(p);
  return {Floats{static_cast<float>(s.v[0]), static_cast<float>(s.v[1]), static_cast<float>(s.v[2]),
                 static_cast<float>(s.v[3])}};
#endif
}

// Whether eight-bit activations carry an offset of 128, as x86's dot product of unsigned and signed bytes needs.
#if defined(AEROGEL_DOT) && (defined(AEROGEL_AVX512) || defined(AEROGEL_AVX2))
constexpr bool kUnsignedActivations = true;
#else
constexpr bool kUnsignedActivations = false;
#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
