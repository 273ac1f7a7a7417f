// Attention of one head, one table per instruction set (attention.cc).
//
// Activations are feature-major, as in elementwise.h: a token is a lane. A token's result has the same bits wherever in
// a tile it lies. Vectors are loaded and stored at any multiple of a float's alignment.
#pragma once

#include <cstdint>

namespace aerogel {

// Keys that are adjacent in one tile.
struct KeySpan {
  const float* k;  // [head_size][stride], at the head's first feature and the span's first token
  const float* v;  // [head_size][stride], likewise
  int64_t stride;
  int64_t tokens;  // 1 or more
};

// One head of one sequence, for those of its queries that lie in one tile.
struct AttentionArgs {
  const float* q;  // [head_size][q_stride], at the head's first feature and the first vector that has queries
  int64_t q_stride;
  int vectors;  // of queries, 1 or more
  // Lanes, counted from q's first, that belong to the sequence: [first_lane, end_lane). No other lane of `out` is read
  // or written: another thread may be writing the results of other sequences in the same vectors.
  int64_t first_lane;
  int64_t end_lane;
  const KeySpan* spans;  // all tokens of the sequence, in order
  int span_count;
  int64_t head_size;
  float scale;  // of the scores, above 0; usually 1 / sqrt(head_size)
  float* out;   // [head_size][out_stride], laid out as q; may not overlap it
  int64_t out_stride;
  float* scratch;  // AttentionKernel::scratch(head_size) floats, 64-byte aligned
};

// out[f, i] = sum_j p[j, i] v[f, j];  p[j, i] = exp(s[j, i] - max_j s) / sum_j exp(s[j, i] - max_j s);
// s[j, i] = scale sum_f k[f, j] q[f, i]. One key or more; the scratch bounds the head size.
struct AttentionKernel {
  void (*run)(const AttentionArgs&);
  int64_t (*scratch)(int64_t head_size);  // floats of scratch memory
};

struct AttentionTable {
  AttentionKernel fp32;
  // q, k, v and p rounded to bfloat16; null where the instruction set has no products of bfloat16.
  AttentionKernel bf16;
};

}  // namespace aerogel
