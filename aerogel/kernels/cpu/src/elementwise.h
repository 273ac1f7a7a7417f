// What an encoder computes between its matrices, attention excepted: one table per instruction set (elementwise.cc).
//
// Tokens are packed in tiles. A tile's activations are feature-major: float [features][stride], where stride is
// `vectors` times ElementwiseTable::width; a token is a lane. Lanes beyond the last token may contain anything, NaN
// included. No function mixes lanes: a token's result has the same bits wherever in a tile it lies and however many
// vectors are passed. Vectors are loaded and stored at any multiple of a float's alignment.
#pragma once

#include <cstdint>

namespace aerogel {

// Greatest errors of exp2, in units in the last place, and of both GELUs, divided by max(1, |x|).
constexpr double kExp2MaxUlp = 1.2;
constexpr double kGeluMaxError = 2.3e-7;

struct ElementwiseTable {
  int width;  // floats in a vector

  // In place on `count` numbers, a multiple of `width`. NaN stays NaN.
  // exp2: 2^x for x up to 127; 0 where it would be below the smallest normal number. Max error: kExp2MaxUlp.
  void (*exp2)(float* x, int64_t count);
  // gelu: x/2 (1 + erf(x / sqrt 2)). Max error: kGeluMaxError.
  void (*gelu)(float* x, int64_t count);
  // gelu_tanh: x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Max error: kGeluMaxError.
  void (*gelu_tanh)(float* x, int64_t count);
  // relu: max(x, 0), exact.
  void (*relu)(float* x, int64_t count);

  // y[k, t] = (x[k, t] - mean_t) / sqrt(variance_t + epsilon) * gamma[k] + beta[k] over the features k of a token;
  // variance is the mean of (x - mean)^2. x, y [features][stride]; y may be x.
  void (*layer_norm)(const float* x, int64_t features, int64_t stride, int vectors, const float* gamma,
                     const float* beta, float epsilon, float* y);

  // m[t] = max_k |x[k, t]|, for m [vectors * width]; NaN for a token that has one.
  void (*absmax)(const float* x, int64_t features, int64_t stride, int vectors, float* m);
  // Four consecutive features of a token become four adjacent bytes: q is [ceil(features / 4)][stride][4], and
  // q[k, t] = clamp(round_half_even(x[k, t] * inverse[t]), -127, 127) + offset, 0 + offset for features beyond the
  // last. inverse [vectors * width]. offset 0 gives signed bytes, 128 unsigned ones. A NaN becomes some number in that
  // range.
  void (*quantize)(const float* x, int64_t features, int64_t stride, int vectors, const float* inverse, int offset,
                   uint8_t* q);

  // Transposes rows into a tile: row t of `features` numbers becomes lane t of xt [features][vectors * width]; other
  // lanes become zero.
  void (*gather_rows)(const float* const* rows, int64_t tokens, int64_t features, int vectors, float* xt);
  // The inverse: lane t of xt [features][stride] becomes row t, for t < tokens.
  void (*scatter_rows)(const float* xt, int64_t stride, int64_t tokens, int64_t features, float* const* rows);
};

}  // namespace aerogel
