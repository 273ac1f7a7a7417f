// Stored weights with AVX-512. The interface is described in weight_load.h.
#pragma once

#include "weight_load.h"

namespace aerogel {
namespace AEROGEL_ISA {

struct Float32 {
  using Value = float;
  using BiasInit = float;
  using Sum = Vec;
  using X = Vec;
  using Vec4 = __m512;  // the four weights in every 128-bit lane
  static AEROGEL_INLINE Vec4 LoadFour(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
  static AEROGEL_INLINE Vec4 LoadOne(const float* p) { return _mm512_set1_ps(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm512_loadu_ps(p); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return _mm512_loadu_ps(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm512_storeu_ps(p, s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static AEROGEL_INLINE Sum BroadcastBiasInit(const float* p) { return _mm512_set1_ps(*p); }
  static AEROGEL_INLINE Sum Zero() { return _mm512_setzero_ps(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
    return _mm512_fmadd_ps(_mm512_permute_ps(four, J * 0x55), x, s);
  }
};

struct Float16 : Float32 {
  using Value = uint16_t;
  static AEROGEL_INLINE Vec4 LoadFour(const uint16_t* p) {
    return _mm512_broadcast_f32x4(_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static AEROGEL_INLINE Vec4 LoadOne(const uint16_t* p) {
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(*p)));
  }
};

struct Int8 {
  using Value = int32_t;  // four int8 weights of neighbouring features
  using BiasInit = int32_t;
  using Sum = __m512i;
  using X = __m512i;
  using Vec4 = __m512i;
  static AEROGEL_INLINE Vec4 LoadFour(const int32_t* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static AEROGEL_INLINE Vec4 LoadOne(const int32_t* p) { return _mm512_set1_epi32(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm512_loadu_si512(p); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return _mm512_loadu_si512(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm512_storeu_si512(p, s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  static AEROGEL_INLINE Sum BroadcastBiasInit(const int32_t* p) { return _mm512_set1_epi32(*p); }
  static AEROGEL_INLINE Sum Zero() { return _mm512_setzero_si512(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
    const __m512i w = _mm512_shuffle_epi32(four, static_cast<_MM_PERM_ENUM>(J * 0x55));
#if defined(__AVX512VNNI__)
    return _mm512_dpbusd_epi32(s, x, w);
#else
    // Magnitudes of x times w under the sign of x: sums of two stay below 2^15, so nothing saturates.
    const __m512i signed_w = _mm512_mask_sub_epi8(w, _mm512_movepi8_mask(x), _mm512_setzero_si512(), w);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x), signed_w);
    return _mm512_add_epi32(s, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
  }
};

inline Vec LoadAsFloat(const char* p) { return _mm512_cvtepi32_ps(Int8::LoadSum(p)); }

#if defined(__AVX512VNNI__)
constexpr bool kUnsignedActivations = true;
#else
constexpr bool kUnsignedActivations = false;
#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
