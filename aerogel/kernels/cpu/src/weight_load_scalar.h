// Stored weights in plain C++. The interface is described in weight_load.h.
#pragma once

#include "weight_load.h"

namespace aerogel {
namespace AEROGEL_ISA {

struct Float32 {
  using Value = float;
  using BiasInit = float;
  using Sum = Vec;
  using X = Vec;
  using Vec4 = Vec;
  static AEROGEL_INLINE Vec4 LoadFour(const float* p) { return Load(p); }
  static AEROGEL_INLINE Vec4 LoadOne(const float* p) { return Set(*p); }
  static AEROGEL_INLINE X LoadX(const char* p) { return Load(reinterpret_cast<const float*>(p)); }
  static AEROGEL_INLINE Sum LoadSum(const char* p) { return LoadX(p); }
  static AEROGEL_INLINE void StoreSum(char* p, Sum s) { Store(reinterpret_cast<float*>(p), s); }
  static AEROGEL_INLINE Sum Plus(Sum a, Sum b) { return Add(a, b); }
  static AEROGEL_INLINE Sum BroadcastBiasInit(const float* p) { return Set(*p); }
  static AEROGEL_INLINE Sum Zero() { return Set(0.0f); }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
    return aerogel::AEROGEL_ISA::MulAdd(Set(four.v[J]), x, s);
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
  } else {  // subnormal: shift until the leading one is implicit
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
  static AEROGEL_INLINE Vec4 LoadFour(const uint16_t* p) {
    return {Floats{Widen(p[0]), Widen(p[1]), Widen(p[2]), Widen(p[3])}};
  }
  static AEROGEL_INLINE Vec4 LoadOne(const uint16_t* p) { return Set(Widen(*p)); }
};

struct Int8 {
  using Value = int32_t;
  using BiasInit = int32_t;
  struct Sum {
    int32_t v[4];
  };
  struct X {
    int8_t v[4][4];
  };
  using Vec4 = X;
  static AEROGEL_INLINE Vec4 LoadFour(const int32_t* p) { return LoadX(reinterpret_cast<const char*>(p)); }
  static AEROGEL_INLINE Vec4 LoadOne(const int32_t* p) {
    Vec4 four{};
    __builtin_memcpy(four.v[0], p, 4);
    return four;
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
  static AEROGEL_INLINE Sum BroadcastBiasInit(const int32_t* p) { return {{*p, *p, *p, *p}}; }
  static AEROGEL_INLINE Sum Zero() { return {{0, 0, 0, 0}}; }
  template <int J>
  static AEROGEL_INLINE Sum MulAdd(Vec4 four, X x, Sum s) {
    for (int t = 0; t < 4; ++t) {
      for (int k = 0; k < 4; ++k) s.v[t] += four.v[J][k] * x.v[t][k];
    }
    return s;
  }
};

inline Vec LoadAsFloat(const char* p) {
  const Int8::Sum s = Int8::LoadSum(p);
  return {Floats{static_cast<float>(s.v[0]), static_cast<float>(s.v[1]), static_cast<float>(s.v[2]),
                 static_cast<float>(s.v[3])}};
}

constexpr bool kUnsignedActivations = false;

}  // namespace AEROGEL_ISA
}  // namespace aerogel
