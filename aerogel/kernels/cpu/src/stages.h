// What a fused encoder does between its matrices, one table an instruction set.
//
// Tokens are packed in tiles. A tile's activations are feature-major: float [features][stride], where stride is
// `vectors` times StageTable::width; a token is a lane. Lanes beyond the last token may hold anything, NaN included. No
// function mixes lanes: a token's result is the same to the bit wherever in a tile it lies and however many vectors are
// passed. Vectors are loaded and stored wherever they lie, at no more than a float's alignment.
#pragma once

#include <cstdint>

namespace aerogel {

// Keys that lie beside each other in one tile.
struct KeySpan {
  const float* k;  // [head_size][stride], at the head's first feature and the span's first token
  const float* v;  // the same
  int64_t stride;
  int64_t tokens;  // 1 or more
};

// One head of one sequence, for those of its queries that lie in one tile.
struct AttentionArgs {
  const float* q;  // [head_size][q_stride], at the head's first feature and the first vector that has queries
  int64_t q_stride;
  int vectors;  // of queries, 1 or more
  // Lanes, counted from q's first, that belong to the sequence: [first_lane, end_lane). No other lane of `out` is read
  // or written, since other sequences' lanes in the same vectors may be another thread's.
  int64_t first_lane;
  int64_t end_lane;
  const KeySpan* spans;  // all tokens of the sequence, in order
  int span_count;
  int64_t head_size;
  float scale;  // of the scores, above 0; 1 / sqrt(head_size) as a rule
  float* out;   // [head_size][out_stride], laid out as q; may not overlap it
  int64_t out_stride;
  float* scratch;  // AttentionKernel::scratch(head_size) floats, 64-byte aligned
};

// out[f, i] = sum_j p[j, i] v[f, j];  p[j, i] = exp(s[j, i] - max_j s) / sum_j exp(s[j, i] - max_j s);
// s[j, i] = scale sum_f k[f, j] q[f, i]. One key or more; the scratch bounds the head size.
struct AttentionKernel {
  void (*run)(const AttentionArgs&);
  int64_t (*scratch)(int64_t head_size);
};

struct StageTable {
  const char* name;
  int width;  // floats in a vector

  // In place on `count` numbers, a multiple of `width`. NaN stays NaN.
  // exp2: of x up to 127, within 2 units in the last place; 0 where it would be below the smallest normal number.
  void (*exp2)(float* x, int64_t count);
  // gelu: x/2 (1 + erf(x / sqrt 2)), error below 3e-7 max(1, |x|).
  void (*gelu)(float* x, int64_t count);
  // gelu_tanh: x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the same error.
  void (*gelu_tanh)(float* x, int64_t count);
  void (*relu)(float* x, int64_t count);

  // y[k, t] = (x[k, t] - mean_t) / sqrt(variance_t + epsilon) * gamma[k] + beta[k] over the features k of a token;
  // variance is the mean of (x - mean)^2. y may be x.
  void (*layer_norm)(const float* x, int64_t features, int64_t stride, int vectors, const float* gamma,
                     const float* beta, float epsilon, float* y);

  // m[t] = max_k |x[k, t]|, for m [vectors * width]; NaN for a token that has one.
  void (*absmax)(const float* x, int64_t features, int64_t stride, int vectors, float* m);
  // Four consecutive features of a token become four adjacent bytes: q is [ceil(features / 4)][stride][4], and
  // q[k, t] = clamp(round_half_even(x[k, t] * inverse[t]), -127, 127) + offset, 0 + offset for features beyond the
  // last. offset 0 gives signed bytes, 128 unsigned ones. A NaN becomes some number in that range.
  void (*quantize)(const float* x, int64_t features, int64_t stride, int vectors, const float* inverse, int offset,
                   uint8_t* q);

  // Row t of `features` numbers becomes lane t of xt [features][vectors * width]; other lanes become zero.
  void (*gather_rows)(const float* const* rows, int64_t tokens, int64_t features, int vectors, float* xt);
  // The way back.
  void (*scatter_rows)(const float* xt, int64_t stride, int64_t tokens, int64_t features, float* const* rows);

  AttentionKernel attention;
  // With q, k, v and p rounded to bfloat16; no function where the instruction set does not multiply such.
  AttentionKernel rounded_attention;
};

// One an instruction set that was compiled for this architecture.
extern const StageTable kScalarStages;
extern const StageTable kAvx2Stages;
extern const StageTable kAvxVnniStages;
extern const StageTable kAvx512Stages;
extern const StageTable kAvx512VnniStages;
extern const StageTable kAvx512Bf16Stages;
extern const StageTable kNeonStages;
extern const StageTable kNeonDotStages;

}  // namespace aerogel
