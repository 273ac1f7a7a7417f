// 64-bit Arm; with the dot product of bytes where the flags have it. The interface is described in simd.h.
#pragma once

#include <arm_neon.h>

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

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
inline void StoreInt8x4(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
  const float32x4_t limit = vdupq_n_f32(127.0f);
  const float32x4_t lowest = vdupq_n_f32(-127.0f);
  const auto whole = [&](Vec x) { return vcvtnq_s32_f32(vmaxq_f32(vminq_f32(x, limit), lowest)); };
  int32x4_t bytes = vsliq_n_s32(whole(a), whole(b), 8);
  bytes = vsliq_n_s32(bytes, whole(c), 16);
  bytes = vsliq_n_s32(bytes, whole(d), 24);
  vst1q_u8(q, vreinterpretq_u8_s32(veorq_s32(bytes, vdupq_n_s32(flip))));
}

inline void Transpose(Vec (&r)[4]) {
  const float32x4x2_t a = vtrnq_f32(r[0], r[1]);
  const float32x4x2_t b = vtrnq_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  r[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  r[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  r[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

// Of 32 registers.
constexpr int kBlockSums = 16;
constexpr int kGemmVectors = 4;
constexpr int kQueryVectors = 4;
constexpr bool kUnrollRows = true;
template <>
struct HeightsOf<1> : Heights<16, 8, 4, 2, 1> {};
template <>
struct HeightsOf<2> : Heights<8, 4, 2, 1> {};
template <>
struct HeightsOf<3> : Heights<4, 2, 1> {};
template <>
struct HeightsOf<4> : Heights<4, 2, 1> {};

}  // namespace AEROGEL_ISA
}  // namespace aerogel
