// Stored weights as the inner loops take them: four at a time, then one of the four against a vector of activations.
// CMakeLists.txt sets AEROGEL_WEIGHT_LOAD_HEADER to the weight_load_<header>.h of the instruction set (see isa_list.h).
//
// One load fetches four values and broadcasts them inside the register, which leaves the load ports to the activations:
// an entry of a sparse row costs one load for each of its vectors of activations and half of one for its value and
// column, instead of two.
//
// A header defines the structs Float32, Float16 and Int8, one per type of stored value, with the same members:
//
//   Value                  type in memory; of Int8, int32_t: four weights of neighbouring features
//   Sum                    a vector of kWidth sums: floats, or int32 of Int8
//   LoadSum(p), StoreSum(p, s), Plus(a, b), Zero()
//   X, LoadX(p)            a vector of activations: kWidth floats, or of Int8 kWidth times four bytes
//   Vec4                   four Values
//   LoadFour(p)            four Values at p
//   LoadOne(p)             one Value at p, as element 0; the others are unspecified
//   MulAdd<J>(four, x, s)  s + element J of `four` times x, lane by lane; of Int8 summed over the four features
//   BiasInit               what a row's sums begin with: its bias (float), or the correction for the offset of unsigned
//                          activations (int32_t)
//   BroadcastBiasInit(p)   *p in every lane
//
// All pointers may have any address that is a multiple of the element's size. Besides:
//
//   LoadAsFloat(p)         kWidth int32 at p, as floats
//   kUnsignedActivations   whether eight-bit activations carry an offset of 128, because the dot product multiplies
//                          unsigned by signed bytes
#pragma once

#include "simd.h"

#define AEROGEL_INLINE inline __attribute__((always_inline))

#include AEROGEL_WEIGHT_LOAD_HEADER
