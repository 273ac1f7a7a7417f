// Plain C++ with the vector extension of GCC and Clang: the reference for the other instruction sets. The interface is
// described in simd.h.
#pragma once

#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

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
inline Vec Round(Vec a) {  // a float of 2^23 or more has no fraction bits
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
inline void StoreInt8x4(uint8_t* q, Vec a, Vec b, Vec c, Vec d, int32_t flip) {
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

// The compiler decides what stays in registers.
constexpr int kBlockSums = 16;
constexpr int kGemmVectors = 4;
constexpr int kQueryVectors = 1;
constexpr bool kUnrollRows = false;  // gains nothing here, and takes GCC a minute
template <>
struct HeightsOf<1> : Heights<4, 1> {};

}  // namespace AEROGEL_ISA
}  // namespace aerogel
