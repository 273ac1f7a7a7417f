// The table through which the rest of the library calls the code of one instruction set.
#pragma once

#include <cstdint>

#include "attention.h"
#include "elementwise.h"
#include "packed.h"

namespace aerogel {

// Vectors of tokens in a full tile.
constexpr int kTileVectors = 4;

// Tokens are processed in tiles. A tile's activations are feature-major: `x` is float [in_features][stride] with
// stride = vectors * width, so that one weight meets `width` tokens in one instruction. Eight-bit activations are
// [ceil(in_features / 4)][stride][4] bytes: four neighbouring features of a token are adjacent. Either way a column of
// the packed matrix is stride * 4 bytes.

// One chunk of a packed matrix against one tile of tokens, as plain pointers (simd.h says why there are no containers).
struct SpmmArgs {
  DType dtype;
  int panel_rows;           // 1, 2 or 4
  const Segment* segments;  // [tiles + 1], of this chunk
  const Group* groups;
  const uint32_t* value_offsets;
  const uint16_t* rows;
  const uint8_t* columns;
  const void* values;
  int64_t tiles;
  int64_t tile_cols;
  const void* x;
  int vectors;  // 1, 2 or 4
  // sums[n, t] = bias_init[n] (+ residual[n, t], which may be null) + products.
  const void* bias_init;       // float (int32 if dtype is kInt8) [rows]
  const float* residual;       // [rows][vectors * width]; null if dtype is kInt8
  const uint16_t* empty_rows;  // rows without an entry in the first tile
  int64_t empty_count;
  void* sums;  // float (int32 if dtype is kInt8) [rows][vectors * width]
};

// A chunk of a dense float matrix [in_features][out_features], which is not copied, against one tile of tokens.
struct GemmArgs {
  const float* weight;  // from this chunk's first output on
  int64_t in_features;
  int64_t out_features;  // the row stride of `weight`
  int64_t rows;          // outputs of this chunk
  const float* x;
  int vectors;
  const float* bias;      // [rows]
  const float* residual;  // [rows][vectors * width] or null
  float* y;               // [rows][vectors * width]
};

// What turns 32-bit sums into y: y = sum * (token_scale * row_scale) + bias (+ residual).
struct DequantizeArgs {
  void* y;  // int32 in, float out, [rows][stride]
  int64_t rows;
  int vectors;
  const float* row_scale;    // [rows]
  const float* token_scale;  // [stride]
  const float* bias;         // [rows]
  const float* residual;     // [rows][stride] or null
};

struct KernelTable {
  const char* name;
  int width;                  // floats in a vector
  bool unsigned_activations;  // eight-bit activations carry an offset of 128
  void (*spmm)(const SpmmArgs&);
  void (*gemm)(const GemmArgs&);
  void (*dequantize)(const DequantizeArgs&);
  const ElementwiseTable* elementwise;
  const AttentionTable* attention;
};

}  // namespace aerogel
