// y = x W^T + b for one sparse matrix. Compiled once per instruction set; CMakeLists.txt sets the flags, AEROGEL_ISA
// (the namespace) and AEROGEL_TABLE (the table's symbol).
//
//   acc[n, t] = b[n];   acc[n, t] += W[n, k] * xt[k, t]   over stored (n, k);   y[t, n] = acc[n, t]
//
// xt is feature-major, so a stored weight is broadcast once and meets a whole vector of tokens at a time. Work goes
// chunk of rows by chunk, inside it tile of columns by tile: the activations of a tile fit the first-level cache, which
// is what the speed of unstructured weights hangs on.
#include "kernels.h"
#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {
namespace {

// Unrolled before arrays are taken apart into registers; without it GCC keeps the accumulators on the stack.
#define UNROLL _Pragma("GCC unroll 16")

// The integer that holds four columns.
template <typename Column>
struct FourColumns;
template <>
struct FourColumns<uint8_t> {
  using Type = uint32_t;
};
template <>
struct FourColumns<uint16_t> {
  using Type = uint64_t;
};

// Stored weights of one panel of H rows against V vectors of tokens. Accumulators stay in registers.
template <int H, int V, typename Column>
inline void RunPanel(const Panel& panel, const Column* columns, const float* values, const float* xt, float* acc) {
  constexpr int kTile = V * kWidth;
  acc += int64_t{panel.row} * kTile;
  Vec sum[H][V];
  UNROLL for (int h = 0; h < H; ++h) {
    UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Load(acc + h * kTile + v * kWidth);
  }
  const auto entry = [&](uint64_t column, const float* w) __attribute__((always_inline)) {
    const float* x = xt + column * kTile;
    Vec xs[V];
    UNROLL for (int v = 0; v < V; ++v) xs[v] = Load(x + v * kWidth);
    UNROLL for (int h = 0; h < H; ++h) {
      const Vec wh = Set(w[h]);
      UNROLL for (int v = 0; v < V; ++v) sum[h][v] = MulAdd(wh, xs[v], sum[h][v]);
    }
  };
  // Four columns by one load: the loop is bound by loads (two a cycle), of which an entry needs one for its column,
  // one for its value and V for activations. 7% over 768 x 3072 at 10%.
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "columns are taken out of the integer from its low end");
  constexpr int kBits = 8 * sizeof(Column);
  int i = 0;
  for (; i + 4 <= panel.count; i += 4) {
    typename FourColumns<Column>::Type four;
    __builtin_memcpy(&four, columns + i, sizeof four);
    UNROLL for (int j = 0; j < 4; ++j) entry(static_cast<Column>(four >> (kBits * j)), values + (i + j) * H);
  }
  for (; i < panel.count; ++i) entry(columns[i], values + i * H);
  UNROLL for (int h = 0; h < H; ++h) {
    UNROLL for (int v = 0; v < V; ++v) Store(acc + h * kTile + v * kWidth, sum[h][v]);
  }
}

template <int H, int V, typename Column>
void RunTiles(const ChunkArgs& args, const Column* all_columns) {
  if (args.rows_in_place) {
    // Panels will jump about in the chunk's values: have them in the second-level cache before they do. A chunk's
    // entries are neighbours in the file, and as many as its segments count.
    const float* end = args.values + args.segments[args.tiles].first_entry;
    for (const float* p = args.values + args.segments[0].first_entry; p < end; p += 16) __builtin_prefetch(p, 0, 2);
  }
  for (int64_t tile = 0; tile < args.tiles; ++tile) {
    const Segment& segment = args.segments[tile];
    const Column* columns = all_columns + segment.first_entry;
    const float* xt = args.xt + tile * args.tile_cols * V * kWidth;
    const Panel* end = args.panels + args.segments[tile + 1].first_panel;
    for (const Panel* panel = args.panels + segment.first_panel; panel != end; ++panel) {
      RunPanel<H, V>(*panel, columns, args.values + int64_t{panel->first} * H, xt, args.accumulators);
      columns += panel->count;
    }
  }
}

template <int H, typename Column>
void RunVectors(const ChunkArgs& args, const Column* columns) {
  switch (args.vectors) {
    case 1:
      return RunTiles<H, 1>(args, columns);
    case 2:
      return RunTiles<H, 2>(args, columns);
    case 4:
      return RunTiles<H, 4>(args, columns);
    default:
      return RunTiles<H, 8>(args, columns);
  }
}

// Transposes a [rows][cols] matrix with edges that need not be whole vectors.
void TransposeAny(const float* src, int64_t from, int64_t rows, int64_t cols, float* dst, int64_t to) {
  const int64_t whole_rows = rows / kWidth * kWidth;
  const int64_t whole_cols = cols / kWidth * kWidth;
  for (int64_t i = 0; i < whole_rows; i += kWidth) {
    for (int64_t j = 0; j < whole_cols; j += kWidth) Transpose(src + i * from + j, from, dst + j * to + i, to);
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_cols : 0; j < cols; ++j) dst[j * to + i] = src[i * from + j];
  }
}

void LoadTile(const float* x, int64_t stride, int64_t tokens, int64_t features, int vectors, float* xt) {
  const int64_t tile = int64_t{vectors} * kWidth;
  TransposeAny(x, stride, tokens, features, xt, tile);
  if (tokens == tile) return;
  for (int64_t k = 0; k < features; ++k) {
    for (int64_t t = tokens; t < tile; ++t) xt[k * tile + t] = 0.0f;
  }
}

// Writes accumulators [rows][tile] to y [tokens][stride]. Goes through a small buffer so that every token's outputs are
// written as one run: with a stride of a multiple of 4096 bytes, as in 3072-wide layers, single vectors written to one
// token after the other all fall into the same few cache sets.
void StoreTile(const float* acc, int64_t tile, int64_t rows, int64_t tokens, float* y, int64_t stride) {
  constexpr int64_t kRun = 64;
  alignas(64) float run[kWidth * kRun];
  for (int64_t t = 0; t < tokens; t += kWidth) {
    const int64_t here = tokens - t < kWidth ? tokens - t : kWidth;
    for (int64_t n = 0; n < rows; n += kRun) {
      const int64_t length = rows - n < kRun ? rows - n : kRun;
      TransposeAny(acc + n * tile + t, tile, length, here, run, kRun);
      for (int64_t i = 0; i < here; ++i)
        __builtin_memcpy(y + (t + i) * stride + n, run + i * kRun, length * sizeof(float));
    }
  }
}

void RunChunk(const ChunkArgs& args) {
  const int64_t tile = int64_t{args.vectors} * kWidth;
  for (int64_t n = 0; n < args.rows; ++n) {
    const Vec b = Set(args.bias[n]);
    for (int64_t t = 0; t < tile; t += kWidth) Store(args.accumulators + n * tile + t, b);
  }
  switch (args.height) {
    case 1:
      RunVectors<1>(args, args.near_columns);
      break;
    case 2:
      RunVectors<2>(args, args.columns);
      break;
    default:
      RunVectors<4>(args, args.columns);
      break;
  }
  StoreTile(args.accumulators, tile, args.rows, args.tokens, args.y, args.y_stride);
}

// Vectors of tokens in a full tile: as many accumulators as the registers hold, 8 to 16 chains to hide the latency.
int MaxVectors(int height) {
#if defined(AEROGEL_AVX512)
  (void)height;
  return 4;
#elif defined(AEROGEL_AVX2)
  return height == 4 ? 2 : height == 2 ? 4 : 8;
#else
  return height == 4 ? 4 : 8;
#endif
}

const KernelTable kTable = {AEROGEL_NAME, kWidth, MaxVectors, LoadTile, RunChunk};

}  // namespace
}  // namespace AEROGEL_ISA

const KernelTable* const AEROGEL_TABLE = &AEROGEL_ISA::kTable;

}  // namespace aerogel
