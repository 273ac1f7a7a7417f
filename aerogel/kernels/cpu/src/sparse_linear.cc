#include "sparse_linear.h"

#include <algorithm>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace aerogel {
namespace {

constexpr size_t kAlignment = 64;
// Floats of accumulators a thread keeps: a chunk of 256 rows x 64 tokens.
constexpr int64_t kScratch = 16384;
// Tokens are taken in groups of this many tiles, which bounds the transposed copy of the activations.
constexpr int64_t kTilesPerGroup = 8;
// Columns of one unit of transposing work.
constexpr int64_t kLoadColumns = 512;

// Thread-local without constructor or destructor: nothing of it runs, or can throw, on a thread of the caller's.
alignas(kAlignment) thread_local float scratch[kScratch];

int64_t FirstLevelCacheBytes() {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  const long size = sysconf(_SC_LEVEL1_DCACHE_SIZE);
  if (size >= 8192 && size <= (1 << 20)) return size;
#endif
  return 32768;
}

Tiling ChooseTiling(const SparseView& matrix, const KernelTable& kernels) {
  const int64_t tile = int64_t{kernels.max_vectors(PanelHeight(matrix))} * kernels.width;
  const int64_t bytes_per_column = tile * static_cast<int64_t>(sizeof(float));
  Tiling tiling{};
  // Five sixths of the first-level cache for activations, the rest for accumulators and the weights passing through.
  tiling.tile_cols = std::clamp<int64_t>(FirstLevelCacheBytes() * 5 / 6 / bytes_per_column / 16 * 16, 16, 256);
  // Four chunks or more, for several threads to share, but none so short that reloading the activations shows.
  const int64_t quarter = (matrix.out_features / 4 + 15) / 16 * 16;
  tiling.chunk_rows = std::clamp<int64_t>(quarter, 64, kScratch / tile);
  return tiling;
}

// Transposed activations; one per calling thread, kept between calls because mapping megabytes of fresh pages costs
// as much as a small layer.
class Workspace {
 public:
  float* Get(size_t floats) {
    if (floats > size_) {
      Free();
      data_ = static_cast<float*>(::operator new(floats * sizeof(float), std::align_val_t(kAlignment)));
      size_ = floats;
    }
    return data_;
  }
  ~Workspace() { Free(); }

 private:
  void Free() {
    ::operator delete(data_, std::align_val_t(kAlignment));
    data_ = nullptr;
    size_ = 0;
  }
  float* data_ = nullptr;
  size_t size_ = 0;
};

struct TokenTile {
  int64_t first;
  int64_t tokens;
  int vectors;
  float* xt;
};

struct Group {
  const PackedMatrix* matrix;
  const float* bias;
  const KernelTable* kernels;
  const float* x;
  float* y;
  TokenTile tiles[kTilesPerGroup];
  int64_t loads;  // units of transposing work per tile
};

void LoadUnit(void* argument, size_t i) {
  const Group& g = *static_cast<const Group*>(argument);
  const auto unit = static_cast<int64_t>(i);
  const TokenTile& tile = g.tiles[unit / g.loads];
  const int64_t in = g.matrix->in_features;
  const int64_t first = unit % g.loads * kLoadColumns;
  g.kernels->load_tile(g.x + tile.first * in + first, in, tile.tokens, std::min(kLoadColumns, in - first), tile.vectors,
                       tile.xt + first * tile.vectors * g.kernels->width);
}

void ChunkUnit(void* argument, size_t i) {
  const Group& g = *static_cast<const Group*>(argument);
  const PackedMatrix& m = *g.matrix;
  const auto unit = static_cast<int64_t>(i);
  const TokenTile& tile = g.tiles[unit / m.chunks];
  const int64_t chunk = unit % m.chunks;
  const int64_t row = chunk * m.tiling.chunk_rows;
  ChunkArgs args{};
  args.segments = m.segments.data() + chunk * m.tiles;
  args.panels = m.panels.data();
  args.near_columns = m.near_columns;
  args.columns = m.columns;
  args.values = m.values;
  args.rows_in_place = m.rows_in_place;
  args.height = m.height;
  args.tiles = m.tiles;
  args.tile_cols = m.tiling.tile_cols;
  args.rows = std::min(m.tiling.chunk_rows, m.out_features - row);
  args.bias = g.bias + row;
  args.xt = tile.xt;
  args.vectors = tile.vectors;
  args.tokens = tile.tokens;
  args.y = g.y + tile.first * m.out_features + row;
  args.y_stride = m.out_features;
  args.accumulators = scratch;
  g.kernels->run_chunk(args);
}

}  // namespace

SparseLinear::SparseLinear(PackedMatrix matrix, const float* bias, const KernelTable& kernels)
    : matrix_(std::move(matrix)), bias_(bias, bias + matrix_.out_features), kernels_(&kernels) {}

std::unique_ptr<SparseLinear> SparseLinear::Create(const SparseView& matrix, const float* bias,
                                                   const KernelTable& kernels, std::string* error) {
  *error = Validate(matrix);
  if (!error->empty()) return nullptr;
  return std::unique_ptr<SparseLinear>(new SparseLinear(Pack(matrix, ChooseTiling(matrix, kernels)), bias, kernels));
}

void SparseLinear::Run(const float* x, int64_t tokens, float* y, const Parallel& parallel) const {
  thread_local Workspace workspace;
  const int width = kernels_->width;
  const int full = kernels_->max_vectors(matrix_.height);
  const int64_t tile_tokens = int64_t{full} * width;
  const int64_t in = matrix_.in_features;

  Group group{};
  group.matrix = &matrix_;
  group.bias = bias_.data();
  group.kernels = kernels_;
  group.x = x;
  group.y = y;
  group.loads = (in + kLoadColumns - 1) / kLoadColumns;
  const int64_t largest = std::min(tokens, kTilesPerGroup * tile_tokens);
  float* xt = workspace.Get(static_cast<size_t>((largest + tile_tokens - 1) / tile_tokens * tile_tokens * in));

  for (int64_t first = 0; first < tokens;) {
    int64_t count = 0;
    for (; count < kTilesPerGroup && first < tokens; ++count) {
      const int64_t here = std::min(tile_tokens, tokens - first);
      int vectors = full;
      // The last tile may do with fewer vectors.
      while (vectors > 1 && int64_t{vectors / 2} * width >= here) vectors /= 2;
      group.tiles[count] = {first, here, vectors, xt + count * tile_tokens * in};
      first += here;
    }
    parallel.For(static_cast<size_t>(count * group.loads), LoadUnit, &group);
    parallel.For(static_cast<size_t>(count * matrix_.chunks), ChunkUnit, &group);
  }
}

}  // namespace aerogel
