#include "sparse_linear.h"

#include <algorithm>

#include "thread_memory.h"

namespace aerogel {
namespace {

// Tokens are taken in groups of this many tiles, which bounds the transposed copy of the activations.
constexpr int64_t kTilesPerGroup = 8;
// Columns of one unit of transposing work.
constexpr int64_t kLoadColumns = 512;
constexpr int64_t kMostTileTokens = kTileVectors * 16;

// Tokens [first, first + tokens) and their activations; stride = vectors * KernelTable::width.
struct TokenTile {
  int64_t first;
  int64_t tokens;
  int vectors;
  float* xt;     // [in_features][stride], x transposed
  float* yt;     // [out_features][stride]
  uint8_t* q;    // [ceil(in_features / 4)][stride][4], x rounded to eight bits
  float* scale;  // [stride], of each token of q
};

}  // namespace

void SparseLinear::Run(const float* x, int64_t tokens, float* y, const Parallel& parallel) const {
  thread_local GrowingBuffer buffer;
  const KernelTable& kernels = matrix_->kernels();
  const ElementwiseTable& elementwise = *kernels.elementwise;
  const int64_t tile_tokens = int64_t{kTileVectors} * kernels.width;
  const int64_t in = in_features(), out = out_features();
  const int64_t loads = (in + kLoadColumns - 1) / kLoadColumns;
  const int64_t tiles = std::min((tokens + tile_tokens - 1) / tile_tokens, kTilesPerGroup);
  // Activations, and where weights are eight-bit their scales and rounded form.
  const int64_t rounded = matrix_->quantized() ? (in + 3) / 4 * tile_tokens : 0;
  const int64_t each = (in + out) * tile_tokens + kMostTileTokens + rounded;
  float* const memory = buffer.Get(tiles * each);

  TokenTile group[kTilesPerGroup];
  for (int64_t first = 0; first < tokens;) {
    int64_t count = 0;
    for (; count < kTilesPerGroup && first < tokens; ++count) {
      const int64_t here = std::min(tile_tokens, tokens - first);
      float* const tile = memory + count * each;
      float* const results = tile + in * tile_tokens;
      float* const scale = results + out * tile_tokens;
      auto* const q = reinterpret_cast<uint8_t*>(scale + kMostTileTokens);
      group[count] = {first, here, VectorsFor(here, kernels.width), tile, results, q, scale};
      first += here;
    }
    ParallelFor(parallel, count * loads, [&](int64_t unit) {
      const TokenTile& tile = group[unit / loads];
      const int64_t column = unit % loads * kLoadColumns;
      const float* rows[kMostTileTokens];
      for (int64_t t = 0; t < tile.tokens; ++t) rows[t] = x + (tile.first + t) * in + column;
      elementwise.gather_rows(rows, tile.tokens, std::min(kLoadColumns, in - column), tile.vectors,
                              tile.xt + column * tile.vectors * kernels.width);
    });
    if (matrix_->quantized()) {
      ParallelFor(parallel, count, [&](int64_t i) {
        const TokenTile& tile = group[i];
        QuantizeTile(kernels, tile.xt, in, tile.vectors, tile.q, tile.scale);
      });
    }
    // Tiles in the inner loop: a chunk's weights stay in cache from one to the next.
    ParallelFor(parallel, count * matrix_->chunks(), [&](int64_t unit) {
      const TokenTile& tile = group[unit % count];
      const int64_t stride = int64_t{tile.vectors} * kernels.width;
      const Chunk& chunk = matrix_->chunk(unit / count);
      float* const yt = tile.yt + chunk.row * stride;
      matrix_->Run(unit / count, {tile.xt, tile.q, tile.scale, tile.vectors}, nullptr, yt);
      float* rows[kMostTileTokens];
      for (int64_t t = 0; t < tile.tokens; ++t) rows[t] = y + (tile.first + t) * out + chunk.row;
      elementwise.scatter_rows(yt, stride, tile.tokens, chunk.rows, rows);
    });
  }
}

}  // namespace aerogel
