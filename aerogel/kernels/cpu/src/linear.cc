// Products of sparse and dense matrices with a tile of activations, and the table of all kernels. Compiled once per
// instruction set, see isa_list.h.
//
//   sum[n, t] += W[n, k] x[k, t]   over stored (n, k)
//
// Activations are feature-major, so a stored weight is broadcast once and meets a whole vector of tokens at a time.
// Work goes chunk of rows by chunk, inside it tile of columns by tile: the activations of a tile fit the first-level
// cache, on which the speed of unstructured weights depends.
//
// Template parameters: K is the type of stored values (weight_load.h), H the rows of a panel, V the vectors of tokens
// processed together, S all vectors of the tile, First whether the tile of columns is the chunk's first.
#include "kernels.h"
#include "weight_load.h"

namespace aerogel {
namespace AEROGEL_ISA {
namespace {

constexpr int64_t kVectorBytes = kWidth * 4;

// The panels of one length of one chunk and tile. `columns` holds count bytes per panel, one panel after the other.
struct GroupArgs {
  int panels;
  int count;
  const uint32_t* value_offsets;
  const uint16_t* rows;
  const uint8_t* columns;
  const void* values;
  const char* x;          // of the tile
  char* sums;             // of the chunk
  const void* bias_init;  // of the chunk, see SpmmArgs
  const char* residual;   // likewise
};

// Hides from the compiler where a pointer comes from. Otherwise GCC keeps the address of each of up to 16 vectors of
// sums from their loads to their stores, in registers that the loop between them needs: a tenth of the time of 4x1
// blocks.
template <typename T>
AEROGEL_INLINE T* Opaque(T* p) {
  __asm__("" : "+r"(p));
  return p;
}

// Loads the V sums of a row before its first entry: bias_init and residual in the first tile of columns, the sums so
// far in the others. at: byte offset of the row in `sums` and `residual`.
template <typename K, int V, bool First>
AEROGEL_INLINE void LoadSums(const GroupArgs& group, int64_t row, int64_t at, typename K::Sum (&sum)[V]) {
  if (First) {
    const typename K::Sum init = K::BroadcastBiasInit(static_cast<const typename K::BiasInit*>(group.bias_init) + row);
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[v] = init;
    if (group.residual) {
      const char* const residual = Opaque(group.residual + at);
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[v] = K::Plus(sum[v], K::LoadSum(residual + v * kVectorBytes));
    }
  } else {
    const char* const sums = Opaque(group.sums + at);
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[v] = K::LoadSum(sums + v * kVectorBytes);
  }
}

// Adds element J of `four` times the activations of one column, at x.
template <typename K, int V, int J>
AEROGEL_INLINE void Entry(typename K::Vec4 four, const char* x, typename K::Sum (&sum)[V]) {
  AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[v] =
      K::template MulAdd<J>(four, K::LoadX(x + v * kVectorBytes), sum[v]);
}

// Adds the products of four entries, alternately to `sum` and `odd`, which may be the same array.
template <typename K, int V>
AEROGEL_INLINE void FourEntries(const uint8_t* columns, const typename K::Value* w, const char* x,
                                typename K::Sum (&sum)[V], typename K::Sum (&odd)[V]) {
  constexpr int64_t kStride = V * kVectorBytes;
  uint32_t packed;
  __builtin_memcpy(&packed, columns, sizeof packed);
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first column is the lowest byte of the integer");
  const typename K::Vec4 four = K::LoadFour(w);
  Entry<K, V, 0>(four, x + (packed & 255) * kStride, sum);
  Entry<K, V, 1>(four, x + (packed >> 8 & 255) * kStride, odd);
  Entry<K, V, 2>(four, x + (packed >> 16 & 255) * kStride, sum);
  Entry<K, V, 3>(four, x + (packed >> 24) * kStride, odd);
}

// Where the panels to come load their sums from.
template <bool First>
AEROGEL_INLINE const char* Ahead(const GroupArgs& group) {
  return First && group.residual ? group.residual : group.sums;
}

// Prefetches `count` values. Panels are visited by length, an order that the hardware prefetcher cannot follow.
template <typename Value>
AEROGEL_INLINE void PrefetchValues(const Value* values, int count) {
  const auto* first = reinterpret_cast<const char*>(values);
  const char* const last = reinterpret_cast<const char*>(values + count) - 1;
  for (; first < last; first += 64) __builtin_prefetch(first);
  __builtin_prefetch(last);
}

// A group of panels of one row, against all V vectors of the tile. Q: the group's count / 4, as a constant, so that the
// entries run without a branch between them except for the last count % 4; kAnyLength: a loop over the entries.
constexpr int kAnyLength = -1;

template <typename K, int V, bool First, int Q>
void RowGroup(const GroupArgs& group) {
  constexpr int64_t kStride = V * kVectorBytes;
  // A copy: as far as the compiler knows, storing sums could change `group`. 6% on 768 x 768 at 10%.
  const GroupArgs g = group;
  const auto* const values = static_cast<const typename K::Value*>(g.values);
  const uint8_t* columns = g.columns;
  const uint32_t* value_offset = g.value_offsets;
  const uint16_t* const end = g.rows + g.panels;
  for (const uint16_t* row = g.rows; row != end; ++row, ++value_offset, columns += g.count) {
    // Sums come from the second-level cache, in an order that the hardware cannot predict. 3% on 3072 x 768 at 10%.
    const char* const ahead = Ahead<First>(g) + row[kSumsAhead] * kStride;
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(ahead + v * kVectorBytes);
    PrefetchValues(values + value_offset[kValuesAhead], g.count);
    const int64_t at = *row * kStride;
    const typename K::Value* const w = values + *value_offset;
    typename K::Sum sum[V];
    LoadSums<K, V, First>(g, *row, at, sum);
    int i = 0;
    if (Q == kAnyLength) {
      // Two sets of sums, so that a long row's additions need not wait for each other. 25% on 768 x 768 at 50%.
      typename K::Sum odd[V];
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) odd[v] = K::Zero();
      for (; i + 4 <= g.count; i += 4) FourEntries<K, V>(columns + i, w + i, g.x, sum, odd);
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[v] = K::Plus(sum[v], odd[v]);
    } else {
      AEROGEL_UNROLL for (; i < 4 * Q; i += 4) FourEntries<K, V>(columns + i, w + i, g.x, sum, sum);
    }
    for (; i < g.count; ++i) Entry<K, V, 0>(K::LoadOne(w + i), g.x + columns[i] * kStride, sum);
    char* const sums = Opaque(g.sums + at);
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) K::StoreSum(sums + v * kVectorBytes, sum[v]);
  }
}

// A group of panels of H = 2 or 4 rows, against V of the S vectors of the tile, so that H * V sums stay in registers.
template <typename K, int H, int V, int S, bool First>
AEROGEL_INLINE void BlockGroup(const GroupArgs& group, int first_vector) {
  constexpr int64_t kStride = S * kVectorBytes;
  constexpr int kEntries = 4 / H;  // entries whose values one LoadFour loads
  const GroupArgs g = group;
  const auto* const values = static_cast<const typename K::Value*>(g.values);
  const uint8_t* columns = g.columns;
  const char* const x = g.x + first_vector * kVectorBytes;
  for (int p = 0; p < g.panels; ++p, columns += g.count) {
    // Also the sums: 4% on 768 x 768 in blocks of 4 x 1 at 10%.
    const char* const ahead = Ahead<First>(g) + g.rows[p + kSumsAhead] * kStride + first_vector * kVectorBytes;
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(ahead + h * kStride + v * kVectorBytes);
    }
    PrefetchValues(values + int64_t{g.value_offsets[p + kValuesAhead]} * H, g.count * H);
    const int64_t at = g.rows[p] * kStride + first_vector * kVectorBytes;
    const typename K::Value* w = values + int64_t{g.value_offsets[p]} * H;
    typename K::Sum sum[H][V];
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) LoadSums<K, V, First>(g, g.rows[p] + h, at + h * kStride, sum[h]);
    int i = 0;
    for (; i + kEntries <= g.count; i += kEntries, w += 4) {
      const typename K::Vec4 four = K::LoadFour(w);
      const char* x0 = x + columns[i] * kStride;
      const char* x1 = x + columns[i + kEntries - 1] * kStride;
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
        const typename K::X first = K::LoadX(x0 + v * kVectorBytes);
        sum[0][v] = K::template MulAdd<0>(four, first, sum[0][v]);
        sum[1][v] = K::template MulAdd<1>(four, first, sum[1][v]);
        const typename K::X second = H == 4 ? first : K::LoadX(x1 + v * kVectorBytes);
        sum[2 % H][v] = K::template MulAdd<2>(four, second, sum[2 % H][v]);
        sum[3 % H][v] = K::template MulAdd<3>(four, second, sum[3 % H][v]);
      }
    }
    if (i < g.count) {  // two rows and an odd number of entries
      const char* x0 = x + columns[i] * kStride;
      AEROGEL_UNROLL for (int h = 0; h < H; ++h) Entry<K, V, 0>(K::LoadOne(w + h), x0, sum[h]);
    }
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
      char* const sums = Opaque(g.sums + at + h * kStride);
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) K::StoreSum(sums + v * kVectorBytes, sum[h][v]);
    }
  }
}

// The same against all S vectors of the tile, as many at a time as registers allow.
template <typename K, int H, int S, bool First>
void BlockGroups(const GroupArgs& group) {
  constexpr int kVectors = H * S <= kBlockSums ? S : kBlockSums / H;
  for (int v = 0; v < S; v += kVectors) BlockGroup<K, H, kVectors, S, First>(group, v);
}

using RunGroup = void (*)(const GroupArgs&);

// The code for a group of rows of `count` entries.
template <typename K, int V, bool First>
RunGroup RowGroupOf([[maybe_unused]] int count) {
  if constexpr (kUnrollRows) {
    static constexpr RunGroup kUnrolled[] = {
        RowGroup<K, V, First, 0>, RowGroup<K, V, First, 1>, RowGroup<K, V, First, 2>, RowGroup<K, V, First, 3>,
        RowGroup<K, V, First, 4>, RowGroup<K, V, First, 5>, RowGroup<K, V, First, 6>};
    if (count / 4 < static_cast<int>(sizeof kUnrolled / sizeof kUnrolled[0])) return kUnrolled[count / 4];
  }
  return RowGroup<K, V, First, kAnyLength>;
}

// All groups of a chunk in one tile of columns.
template <typename K, int V, bool First>
void RunTile(const SpmmArgs& args, int64_t tile) {
  const Segment& segment = args.segments[tile];
  GroupArgs group{};
  group.value_offsets = args.value_offsets + segment.first_panel;
  group.rows = args.rows + segment.first_panel;
  group.columns = args.columns + segment.first_entry;
  group.values = args.values;
  group.x = static_cast<const char*>(args.x) + tile * args.tile_cols * V * kVectorBytes;
  group.sums = static_cast<char*>(args.sums);
  group.bias_init = args.bias_init;
  group.residual = static_cast<const char*>(static_cast<const void*>(args.residual));
  const Group* end = args.groups + args.segments[tile + 1].first_group;
  for (const Group* g = args.groups + segment.first_group; g != end; ++g) {
    group.panels = g->panels;
    group.count = g->count;
    switch (args.panel_rows) {
      case 1:
        RowGroupOf<K, V, First>(g->count)(group);
        break;
      case 2:
        BlockGroups<K, 2, V, First>(group);
        break;
      default:
        BlockGroups<K, 4, V, First>(group);
        break;
    }
    group.value_offsets += g->panels;
    group.rows += g->panels;
    group.columns += int64_t{g->panels} * g->count;
  }
}

// A chunk against a tile of V vectors.
template <typename K, int V>
void SpmmVectors(const SpmmArgs& args) {
  GroupArgs init{};
  init.bias_init = args.bias_init;
  init.residual = static_cast<const char*>(static_cast<const void*>(args.residual));
  for (int64_t i = 0; i < args.empty_count; ++i) {
    const int64_t at = args.empty_rows[i] * V * kVectorBytes;
    typename K::Sum sum[V];
    LoadSums<K, V, true>(init, args.empty_rows[i], at, sum);
    for (int v = 0; v < V; ++v) K::StoreSum(static_cast<char*>(args.sums) + at + v * kVectorBytes, sum[v]);
  }
  RunTile<K, V, true>(args, 0);
  for (int64_t tile = 1; tile < args.tiles; ++tile) RunTile<K, V, false>(args, tile);
}

template <typename K>
void SpmmOf(const SpmmArgs& args) {
  switch (args.vectors) {
    case 1:
      return SpmmVectors<K, 1>(args);
    case 2:
      return SpmmVectors<K, 2>(args);
    default:
      return SpmmVectors<K, 4>(args);
  }
}

void Spmm(const SpmmArgs& args) {
  switch (args.dtype) {
    case DType::kFloat32:
      return SpmmOf<Float32>(args);
    case DType::kFloat16:
      return SpmmOf<Float16>(args);
    default:
      return SpmmOf<Int8>(args);
  }
}

// H = 1 or 4 neighbouring outputs, from `row` on, of a dense weight [in][out] against V of the S vectors of the tile,
// from first_vector on: y += W[row + h, k] x[k] over features k in [first_k, end_k). The first features begin with bias
// and residual.
template <int H, int V, int S>
void GemmRows(const GemmArgs& args, int64_t first_k, int64_t end_k, int64_t row, int first_vector) {
  constexpr int64_t kStride = S * kWidth;
  const int64_t at = row * kStride + first_vector * kWidth;
  float* const sums = args.y + at;
  const float* x = args.x + first_k * kStride + first_vector * kWidth;
  const float* w = args.weight + first_k * args.out_features + row;
  Vec sum[H][V];
  AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      const int64_t here = h * kStride + v * kWidth;
      if (first_k > 0) {
        sum[h][v] = Load(sums + here);
      } else {
        sum[h][v] = Set(args.bias[row + h]);
        if (args.residual) sum[h][v] = Add(sum[h][v], Load(args.residual + at + here));
      }
    }
  }
  for (int64_t k = first_k; k < end_k; ++k, x += kStride, w += args.out_features) {
    const Float32::Vec4 four = H == 4 ? Float32::LoadFour(w) : Float32::LoadOne(w);
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      const Vec xs = Load(x + v * kWidth);
      sum[0][v] = Float32::MulAdd<0>(four, xs, sum[0][v]);
      if (H == 4) {
        sum[1 % H][v] = Float32::MulAdd<1>(four, xs, sum[1 % H][v]);
        sum[2 % H][v] = Float32::MulAdd<2>(four, xs, sum[2 % H][v]);
        sum[3 % H][v] = Float32::MulAdd<3>(four, xs, sum[3 % H][v]);
      }
    }
  }
  AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) Store(sums + h * kStride + v * kWidth, sum[h][v]);
  }
}

// A chunk of a dense matrix against a tile of S vectors.
template <int S>
void GemmVectors(const GemmArgs& args) {
  constexpr int kVectors = S < kGemmVectors ? S : kGemmVectors;
  constexpr int64_t kTile = 128;  // features whose activations stay in the first-level cache
  for (int64_t k = 0; k < args.in_features; k += kTile) {
    const int64_t end = k + kTile < args.in_features ? k + kTile : args.in_features;
    int64_t row = 0;
    for (; row + 4 <= args.rows; row += 4) {
      for (int v = 0; v < S; v += kVectors) GemmRows<4, kVectors, S>(args, k, end, row, v);
    }
    for (; row < args.rows; ++row) GemmRows<1, S, S>(args, k, end, row, 0);
  }
}

void Gemm(const GemmArgs& args) {
  switch (args.vectors) {
    case 1:
      return GemmVectors<1>(args);
    case 2:
      return GemmVectors<2>(args);
    default:
      return GemmVectors<4>(args);
  }
}

void Dequantize(const DequantizeArgs& args) {
  const int64_t stride = int64_t{args.vectors} * kWidth;
  auto* y = static_cast<char*>(args.y);
  for (int64_t n = 0; n < args.rows; ++n) {
    const Vec b = Set(args.bias[n]);
    const Vec scale = Set(args.row_scale[n]);
    for (int64_t t = 0; t < stride; t += kWidth) {
      const int64_t at = n * stride + t;
      const Vec sum = LoadAsFloat(y + at * 4);
      Vec value = MulAdd(sum, Mul(Load(args.token_scale + t), scale), b);
      if (args.residual) value = Add(value, Load(args.residual + at));
      Store(reinterpret_cast<float*>(y + at * 4), value);
    }
  }
}

}  // namespace

extern const ElementwiseTable kElementwise;  // elementwise.cc
extern const AttentionTable kAttention;      // attention.cc

// Constant data: nothing of this file runs before dispatch.cc has chosen it.
extern const KernelTable kKernels;
const KernelTable kKernels = {AEROGEL_NAME, kWidth,     kUnsignedActivations, Spmm,
                              Gemm,         Dequantize, &kElementwise,        &kAttention};

}  // namespace AEROGEL_ISA
}  // namespace aerogel
