// Stored weights on 64-bit Arm. The interface is described in weight_load.h.
#pragma once

#include "weight_load.h"

namespace aerogel {
namespace AEROGEL_ISA {

struct Float32 {
  using Value = float;
  using BiasInit = float;
  using Sum = Vec;
  using X = Vec;
  using Vec4 = float32x4_t;
  static AEROGEL_INLINE Vec4 LoadFour(const float* p) { return vld1q_f32(p); }
  static AEROGEL_INLINE Vec4 LoadOne(const float* p) { return vdupq_n_f32(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return vld1q_f32(reinterpret_cast<const float*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { vst1q_f32(reinterpret_cast<float*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return vaddq_f32(a, b); }
  static AEROGEL_INLINE Sum BroadcastBiasInit(const float* p) { return vdupq_n_f32(*p); }
  static AEROGEL_INLINE Sum Zero() { return vdupq_n_f32(0.0f); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
    return vfmaq_laneq_f32(s, x, four, J);
  }
};

struct Float16 : Float32 {
  using Value = uint16_t;
  static AEROGEL_INLINE Vec4 LoadFour(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static AEROGEL_INLINE Vec4 LoadOne(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(*p))); }
};

struct Int8 {
  using Value = int32_t;
  using BiasInit = int32_t;
  using Sum = int32x4_t;
  using X = int8x16_t;
  using Vec4 = int8x16_t;
  static AEROGEL_INLINE Vec4 LoadFour(const int32_t* p) { return vreinterpretq_s8_s32(vld1q_s32(p)); }
  static AEROGEL_INLINE Vec4 LoadOne(const int32_t* p) { return vreinterpretq_s8_s32(vdupq_n_s32(*p)); }
  static AEROGEL_INLINE X LoadX(const char* p) { return vld1q_s8(reinterpret_cast<const int8_t*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return vld1q_s32(reinterpret_cast<const int32_t*>(p)); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { vst1q_s32(reinterpret_cast<int32_t*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return vaddq_s32(a, b); }
  static AEROGEL_INLINE Sum BroadcastBiasInit(const int32_t* p) { return vdupq_n_s32(*p); }
  static AEROGEL_INLINE Sum Zero() { return vdupq_n_s32(0); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_laneq_s32(s, x, four, J);
#else
    const int8x16_t w = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(four), J));
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
    const int16x8_t high = vmull_high_s8(x, w);
    return vaddq_s32(s, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
  }
};

inline Vec LoadAsFloat(const char* p) { return vcvtq_f32_s32(Int8::LoadSum(p)); }

constexpr bool kUnsignedActivations = false;

}  // namespace AEROGEL_ISA
}  // namespace aerogel
