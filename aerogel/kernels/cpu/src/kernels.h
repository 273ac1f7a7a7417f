// The table through which the rest of the library calls the code of one instruction set.
#pragma once

#include <cstdint>

#include "packed.h"

namespace aerogel {

// Tokens are processed in tiles. A tile's activations are feature-major: `xt` is [in_features][vectors * width], so
// that one weight meets `width` tokens in one instruction.
struct ChunkArgs {
  // One chunk of a PackedMatrix, as plain pointers (see simd.h for why no containers).
  const Segment* segments;  // [tiles + 1]
  const Panel* panels;
  const uint8_t* near_columns;
  const uint16_t* columns;
  const float* values;
  bool rows_in_place;
  int height;
  int64_t tiles;
  int64_t tile_cols;
  int64_t rows;       // of this chunk
  const float* bias;  // [rows]
  // One tile of tokens.
  const float* xt;  // [in_features][vectors * width]
  int vectors;      // a power of two, at most KernelTable::max_vectors(height)
  int64_t tokens;   // real ones; the rest of the last vector is padding
  float* y;         // [tokens] rows of `y_stride`, from this chunk's first column on
  int64_t y_stride;
  float* accumulators;  // scratch [rows][vectors * width]
};

struct KernelTable {
  const char* name;
  int width;  // floats in a vector
  int (*max_vectors)(int height);
  // Transposes `tokens` rows of x (row stride `stride`), columns [0, features), into xt [features][vectors * width];
  // padding tokens become zeros.
  void (*load_tile)(const float* x, int64_t stride, int64_t tokens, int64_t features, int vectors, float* xt);
  // y[t, n] = bias[n] + sum_k W[n, k] x[t, k] for all rows n of one chunk.
  void (*run_chunk)(const ChunkArgs& args);
};

// One an instruction set; null where it was not compiled for this architecture.
extern const KernelTable* const kScalar;
extern const KernelTable* const kAvx2;
extern const KernelTable* const kAvx512;
extern const KernelTable* const kNeon;

}  // namespace aerogel
