// Stored weights with AVX2. The interface is described in weight_load.h.
#pragma once

#include "weight_load.h"

namespace aerogel {
namespace AEROGEL_ISA {

struct Float32 {
  using Value = float;
  using BiasInit = float;
  using Sum = Vec;
  using X = Vec;
  using Vec4 = __m256;
  static AEROGEL_INLINE Vec4 LoadFour(const float* p) {
    return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
  }
  static AEROGEL_INLINE Vec4 LoadOne(const float* p) { return _mm256_broadcast_ss(p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm256_storeu_ps(reinterpret_cast<float*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm256_add_ps(a, b); }
  static AEROGEL_INLINE Sum BroadcastBiasInit(const float* p) { return _mm256_broadcast_ss(p); }
  static AEROGEL_INLINE Sum Zero() { return _mm256_setzero_ps(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
    return _mm256_fmadd_ps(_mm256_permute_ps(four, J * 0x55), x, s);
  }
};

struct Float16 : Float32 {
  using Value = uint16_t;
  static AEROGEL_INLINE Vec4 LoadFour(const uint16_t* p) {
    const __m128 four = _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(four), four, 1);
  }
  static AEROGEL_INLINE Vec4 LoadOne(const uint16_t* p) {
    return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(*p)));
  }
};

struct Int8 {
  using Value = int32_t;
  using BiasInit = int32_t;
  using Sum = __m256i;
  using X = __m256i;
  using Vec4 = __m256i;
  static AEROGEL_INLINE Vec4 LoadFour(const int32_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static AEROGEL_INLINE Vec4 LoadOne(const int32_t* p) { return _mm256_set1_epi32(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
  static AEROGEL_INLINE Sum BroadcastBiasInit(const int32_t* p) { return _mm256_set1_epi32(*p); }
  static AEROGEL_INLINE Sum Zero() { return _mm256_setzero_si256(); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
    const __m256i w = _mm256_shuffle_epi32(four, J * 0x55);
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(s, x, w);
#else
    // As in weight_load_avx512.h; vpsignb gives w the sign of x.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
    return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }
};

inline Vec LoadAsFloat(const char* p) { return _mm256_cvtepi32_ps(Int8::LoadSum(p)); }

#if defined(__AVXVNNI__)
constexpr bool kUnsignedActivations = true;
#else
constexpr bool kUnsignedActivations = false;
#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
